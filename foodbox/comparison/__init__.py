"""Which detector for my photos? Each is trained on the same ones with the same budget, and all are set side by side."""
