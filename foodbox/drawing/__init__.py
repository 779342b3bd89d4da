"""Boxes on photos, contact sheets, curves."""
