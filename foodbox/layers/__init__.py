"""The shared parts with weights: backbones, pyramids, heads."""
