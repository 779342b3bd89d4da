"""The detectors by name. A new one is a file here and a line in this dictionary."""

from foodbox.detectors.base import Detector
from foodbox.detectors.fast_rcnn import FastRCNN
from foodbox.detectors.faster_rcnn import FasterRCNN
from foodbox.detectors.m2det import M2Det
from foodbox.detectors.mask_rcnn import MaskRCNN
from foodbox.detectors.rcnn import RCNN
from foodbox.detectors.retinanet import RetinaNet
from foodbox.detectors.ssd import SSD
from foodbox.detectors.yolo import YOLO

DETECTORS: dict[str, type[Detector]] = {
    "retinanet": RetinaNet,
    "rcnn": RCNN,
    "fast_rcnn": FastRCNN,
    "faster_rcnn": FasterRCNN,
    "mask_rcnn": MaskRCNN,
    "ssd": SSD,
    "m2det": M2Det,
    "yolo": YOLO,
}
