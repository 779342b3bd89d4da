"""The shared mathematics: plain functions on tensors, no weights."""
