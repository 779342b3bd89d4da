"""Scores: AP as COCO counts it, AP as VOC counts it, mean IoU as the AI Starthon counts it."""
