"""A model over HTTP: for a phone in the kitchen, or for a program that is not written in Python."""
