"""Photos and boxes in."""
