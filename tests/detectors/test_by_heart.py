"""Every detector learns: its light preset, from the embedded backbone, gets eight photos by heart in bounded steps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from foodbox.config import TrainSettings
from foodbox.configure import apply, build
from foodbox.data import proposals
from foodbox.data.formats import read
from foodbox.data.loader import Collate, PreparedPhotos
from foodbox.detectors import DETECTORS
from foodbox.detectors.base import Detector
from foodbox.evaluation.scores import score
from foodbox.inference.predict import predict
from foodbox.ops.boxes import iou
from foodbox.records import Dataset
from foodbox.training.optimiser import make_optimiser, set_rate
from foodbox.weights import pretrained
from foodbox.weights.transfer import put

STEPS = {
    "retinanet": 60,
    "ssd": 180,
    "yolo": 120,
    "m2det": 40,
    "faster_rcnn": 80,
    "mask_rcnn": 130,
    "fast_rcnn": 100,
    "rcnn": 60,
}
"""Of four photos each."""


def start(name: str, names: list[str]) -> Detector:
    kind, weights = DETECTORS[name], pretrained.embedded()
    settings = build(kind.Settings, next(iter(kind.presets.values())))
    detector = kind(names, apply(settings, weights.settings))
    result = put(weights, detector)
    assert not [tensor for tensor in result.fresh if tensor.startswith("backbone.")]
    return detector


@pytest.mark.slow
@pytest.mark.parametrize("name", DETECTORS)
def test_eight_photos_by_heart(name: str, test_data: Path) -> None:
    torch.manual_seed(0)
    masks = DETECTORS[name].needs_masks
    dataset, _ = read(test_data / "data" / ("kuih_masks" if masks else "fruits_nuts"))
    dataset = dataset.with_photos([photo for photo in dataset if len(photo.boxes)][:8])
    detector = start(name, dataset.names).to(memory_format=torch.channels_last)
    photos = PreparedPhotos(dataset.photos, detector.preprocessing, None, masks=masks, search=detector.search)
    collate = Collate(detector.preprocessing)
    batches = [collate([photos[0, i] for i in four]) for four in (range(4), range(4, 8))]

    settings = TrainSettings()
    optimiser = make_optimiser(detector, settings)
    for step in range(STEPS[name]):
        set_rate(optimiser, settings, (step + 1) / STEPS[name])
        batch = batches[step % 2]
        images, *regions = batch.inputs
        losses = detector.train().losses(images, batch.targets, *regions)
        optimiser.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(detector.parameters(), settings.clip)
        optimiser.step()

    scores = score(dataset, list(predict(detector, batches, torch.device("cpu"), half=False, min_score=0.0)))
    found = scores.mask_ap50 if masks else scores.ap50
    assert found is not None
    assert found >= least(detector, dataset)


def least(detector: Detector, dataset: Dataset) -> float:
    """AP50 0.95 or, where the regions come from outside and miss some boxes, nearly what they allow."""
    if detector.search is None:
        return 0.95
    regions = [proposals.of_photo(photo, detector.search) for photo in dataset]
    reached = [iou(photo.boxes, r).amax(1) >= 0.5 for photo, r in zip(dataset, regions, strict=True)]
    return min(0.95, float(torch.cat(reached).float().mean()) - 0.06)
