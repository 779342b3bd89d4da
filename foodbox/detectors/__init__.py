"""The detectors by name. A new one is a file here and a line in this dictionary."""

from foodbox.detectors.base import Detector
from foodbox.detectors.retinanet import RetinaNet

DETECTORS: dict[str, type[Detector]] = {
    "retinanet": RetinaNet,
}
