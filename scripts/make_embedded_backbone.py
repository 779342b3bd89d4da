#!/usr/bin/env python3
"""Makes foodbox/weights/mobilenetv2_coco.safetensors, the COCO-trained backbone that the package carries.

    make_embedded_backbone.py CHECKPOINT

CHECKPOINT is the feature extractor of TensorFlow's detection model zoo, ssd_mobilenet_v2_coco_2018_03_29 (Apache-2.0),
as a .pth of torchvision's MobileNetV2 names. Its first 306 tensors map in order to timm's mobilenetv2_100; what follows
them (the 1280 channel convolution behind C5) is not part of a feature pyramid. They are stored in half precision.
"""

import sys
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file

OUT = Path(__file__).resolve().parents[1] / "foodbox" / "weights" / "mobilenetv2_coco.safetensors"
ORIGIN = "TensorFlow detection model zoo, ssd_mobilenet_v2_coco_2018_03_29, Apache-2.0, backbone only, float16"


def main(checkpoint: Path) -> None:
    """Reads the checkpoint, renames in order, checks every shape, writes OUT."""
    given = torch.load(checkpoint, map_location="cpu", weights_only=True)
    wanted = timm.create_model("mobilenetv2_100", features_only=True).state_dict()
    tensors = {}
    for (name, mine), (theirs, tensor) in zip(wanted.items(), given.items(), strict=False):
        if mine.shape != tensor.shape:
            sys.exit(f"{theirs} {tuple(tensor.shape)} does not fit {name} {tuple(mine.shape)}")
        if not name.endswith("num_batches_tracked"):
            tensors[name] = tensor.half()
            if not torch.isfinite(tensors[name]).all():
                sys.exit(f"{theirs} does not fit in half precision")
    save_file(tensors, OUT, {"origin": ORIGIN})
    print(f"{len(tensors)} tensors, {OUT.stat().st_size / 1e6:.2f} MB in {OUT}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
