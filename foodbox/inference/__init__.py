"""Photos and folders through a detector."""
