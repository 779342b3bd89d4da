"""Runs a darknet network in OpenCV 4, for benchmarks/yolo_opencv.py: needs numpy and opencv-python-headless<5 alone.

    python opencv_darknet.py CFG WEIGHTS INPUTS.npy OUT.json SCORE NMS

INPUTS are pixels uint8 [B, H, W, 3], red green blue, as the network sees them. OUT has for each a list of
[x1, y1, x2, y2, score, class] in pixels of the input.
"""

import json
import sys

import cv2
import numpy as np


def main() -> None:
    """Every input through the network, then OpenCV's own suppression class by class."""
    cfg, weights, inputs, out, score, nms = sys.argv[1:]
    net = cv2.dnn.readNetFromDarknet(cfg, weights)
    found = []
    for pixels in np.load(inputs, mmap_mode="r"):
        net.setInput(cv2.dnn.blobFromImage(np.ascontiguousarray(pixels), 1 / 255))
        rows = np.concatenate(net.forward(net.getUnconnectedOutLayersNames()))  # cx cy w h objectness classes
        place, label = np.nonzero(rows[:, 5:] > float(score))
        sides = np.array([pixels.shape[1], pixels.shape[0]] * 2)
        boxes = (rows[place, :4] - np.pad(rows[place, 2:4] / 2, ((0, 0), (0, 2)))) * sides  # x1 y1 w h
        scores = rows[place, 5 + label]
        kept = cv2.dnn.NMSBoxesBatched(boxes.tolist(), scores.tolist(), label.tolist(), float(score), float(nms))
        boxes[:, 2:] += boxes[:, :2]
        found.append([[*map(float, boxes[i]), float(scores[i]), int(label[i])] for i in kept])
    with open(out, "w") as file:  # noqa: PTH123
        json.dump({"opencv": cv2.__version__, "detections": found}, file)


main()
