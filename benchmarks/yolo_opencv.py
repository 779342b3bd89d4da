"""YOLOv3-tiny beside OpenCV 4's darknet runtime: the same inputs, thresholds and suppression, AP50 of both.

    python benchmarks/yolo_opencv.py PHOTOS WEIGHTS PYTHON [--fixture FILE]

WEIGHTS is a darknet file with its .cfg beside it. PYTHON is an interpreter with opencv-python-headless below 5, for
that no longer reads darknet's files; foodbox itself does not need it. Writes to FILE what
tests/detectors/test_yolo_parity.py compares with.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import tyro
from torchvision.ops import box_iou

from foodbox.data.images import open_photo, prepare
from foodbox.data.loader import Collate
from foodbox.data.parts import read_labels
from foodbox.detections import Detections
from foodbox.evaluation.scores import score
from foodbox.records import Target
from foodbox.weights import darknet, model_file

# Darknet's own for its AP (examples/detector.c, validate_detector).
SCORE, NMS = 0.005, 0.45
SURE = 0.5


def main(photos: Path, weights: Path, opencv: Path, fixture: Path | None = None) -> None:
    """Prints a table."""
    dataset, _ = read_labels(photos, None)
    detector = model_file.build(darknet.read(weights))
    preprocessing = detector.preprocessing
    prepared = [prepare(open_photo(photo.path), preprocessing, photo.path) for photo in dataset]
    start = time.perf_counter()
    ours = []
    for pixels, frame in prepared:
        batch = Collate(preprocessing)([(pixels, Target(), frame)])
        with torch.inference_mode():
            ours += detector.decode(detector(batch.images), batch.frames, SCORE)
    seconds = time.perf_counter() - start

    with tempfile.TemporaryDirectory() as folder:
        inputs, out = Path(folder) / "inputs.npy", Path(folder) / "out.json"
        np.save(inputs, torch.stack([pixels for pixels, _ in prepared]).permute(0, 2, 3, 1).numpy())
        script = Path(__file__).with_name("opencv_darknet.py")
        # OpenCV's [yolo] layer makes scores under its "thresh" 0, which is 0.2 where the .cfg does not say another.
        config = Path(folder) / "network.cfg"
        layers = weights.with_suffix(".cfg").read_text(encoding="utf-8")
        config.write_text(layers.replace("[yolo]", f"[yolo]\nthresh={SCORE}"), encoding="utf-8")
        network = [str(config), str(weights)]
        words = [str(opencv), str(script), *network, str(inputs), str(out), str(SCORE), str(NMS)]
        start = time.perf_counter()
        subprocess.run(words, check=True)
        seconds = seconds, time.perf_counter() - start
        answer = json.loads(out.read_text())
    theirs = []
    for (_, frame), rows in zip(prepared, answer["detections"], strict=True):
        table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
        table = table[table[:, 4].argsort(descending=True)]
        boxes = frame.to_photo(table[:, :4])
        boxes[:, 0::2] = boxes[:, 0::2].clamp(0, frame.width)
        boxes[:, 1::2] = boxes[:, 1::2].clamp(0, frame.height)
        labels = table[:, 5].long()
        theirs.append(Detections(boxes, table[:, 4], labels, detector.names, frame.width, frame.height, frame.path))

    dataset.names = detector.names
    scores = [score(dataset, found) for found in (ours, theirs)]
    sure = [found.over(SURE) for found in theirs]
    matched = sum(int(alike(a, b).sum()) for a, b in zip(sure, ours, strict=True))
    count = sum(map(len, sure))
    print(f"{len(dataset)} photos, {preprocessing.size} px, scores over {SCORE}, NMS {NMS}")
    for name, value, took in zip(("foodbox", f"OpenCV {answer['opencv']}"), scores, seconds, strict=True):
        print(f"{name:14} AP50 {value.ap50:.4f}  AP {value.ap:.4f}  {took:.1f} s")
    print(f"{matched} of OpenCV's {count} detections over {SURE} are ours at IoU 0.9 ({matched / count:.1%})")
    if fixture is not None:
        rows = {
            Path(str(found.path)).name: [
                [*(round(v, 1) for v in box), round(s, 4), label]
                for box, s, label in zip(
                    found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True
                )
            ]
            for found in sure
        }
        about = {"opencv": answer["opencv"], "ap50": round(float(scores[1].ap50 or 0), 4), "score": SCORE, "nms": NMS}
        fixture.write_text(json.dumps(about | {"detections": rows}, separators=(",", ":")) + "\n")


def alike(a: Detections, b: Detections) -> torch.Tensor:
    """Which of a's detections b has, of the same class with an IoU of 0.9: bool [N]."""
    same = a.labels[:, None] == b.labels[None]
    return ((box_iou(a.boxes, b.boxes) >= 0.9) & same).any(1)


if __name__ == "__main__":
    tyro.cli(main, config=(tyro.conf.PositionalRequiredArgs,))
