"""The detectors by name. A new one is a file here and a line in this dictionary."""

from foodbox.detectors.base import Detector
from foodbox.detectors.m2det import M2Det
from foodbox.detectors.retinanet import RetinaNet
from foodbox.detectors.ssd import SSD
from foodbox.detectors.yolo import YOLO

DETECTORS: dict[str, type[Detector]] = {
    "retinanet": RetinaNet,
    "ssd": SSD,
    "m2det": M2Det,
    "yolo": YOLO,
}
