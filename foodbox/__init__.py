"""foodbox finds the food in your own photos: photos and boxes in, a trained detector out.

>>> import foodbox
>>> run = foodbox.train("photos", epochs=10, one_class="food")  # doctest: +SKIP
>>> model = foodbox.load(run.model)  # doctest: +SKIP
>>> model.detect("lunch.jpg").to_dict()  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from foodbox.errors import FoodboxError, UsageError
from foodbox.garbage import without_collecting
from foodbox.version import VERSION as __version__

if TYPE_CHECKING:
    from foodbox.api import Export, Run, check, convert, demo, detect, export, resume, train
    from foodbox.comparison.compare import compare
    from foodbox.comparison.results import Comparison
    from foodbox.data.report import Report
    from foodbox.detections import Detections
    from foodbox.evaluation.scores import Scores
    from foodbox.model import Model, evaluate, load
    from foodbox.records import Dataset, Photo
    from foodbox.serving.server import serve

_WHERE = {
    **dict.fromkeys(("Export", "Run"), "foodbox.api"),
    **dict.fromkeys(("check", "convert", "demo", "detect", "export", "resume", "train"), "foodbox.api"),
    **dict.fromkeys(("Model", "evaluate", "load"), "foodbox.model"),
    **dict.fromkeys(("Dataset", "Photo"), "foodbox.records"),
    "Comparison": "foodbox.comparison.results",
    "Detections": "foodbox.detections",
    "Report": "foodbox.data.report",
    "Scores": "foodbox.evaluation.scores",
    "compare": "foodbox.comparison.compare",
    "serve": "foodbox.serving.server",
}

__all__ = [
    "Comparison",
    "Dataset",
    "Detections",
    "Export",
    "FoodboxError",
    "Model",
    "Photo",
    "Report",
    "Run",
    "Scores",
    "UsageError",
    "__version__",
    "check",
    "compare",
    "convert",
    "demo",
    "detect",
    "evaluate",
    "export",
    "load",
    "resume",
    "serve",
    "train",
]


if not TYPE_CHECKING:  # to whom every name would be one

    def __getattr__(name: str) -> Any:
        """Imports a part when it is first asked for, so that `foodbox --help` need not wait for torch."""
        if name in _WHERE:
            with without_collecting():
                return getattr(importlib.import_module(_WHERE[name]), name)
        raise AttributeError(f"module 'foodbox' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
