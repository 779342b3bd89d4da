"""Training: the one loop, and the folder that a run leaves behind."""
