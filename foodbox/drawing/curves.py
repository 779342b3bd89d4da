"""Curves of a training run: what fell and what rose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.ticker import MaxNLocator

from foodbox.drawing.canvas import empty, png
from foodbox.drawing.fonts import families

SCORES = {"ap": "AP", "ap50": "AP50", "mask_ap": "mask AP", "mean_iou": "mean IoU of the best box"}


def curves(log: Sequence[dict[str, Any]], title: str, best: int = 0) -> bytes:
    """A PNG with the losses by part on the left and the validation scores on the right, over the epochs.

    Args:
        log: one entry an epoch with "epoch", "losses" (part → mean) and, once known, "scores".
        best: the epoch whose model is kept; its scores stand in the legend. 0 where there is none yet.
    """
    figure = empty(11, 4.2)
    left, right = figure.subplots(1, 2)
    epochs = [entry["epoch"] for entry in log]
    left.plot(epochs, [sum(entry["losses"].values()) for entry in log], "k-o", label="sum", markersize=4)
    for part in log[-1]["losses"] if log else ():
        if any(entry["losses"][part] for entry in log):
            left.plot(epochs, [entry["losses"][part] for entry in log], "-o", label=part, markersize=3)
    left.set(title="Training loss", xlabel="epoch", ylim=(0, None))
    scored = [entry for entry in log if entry.get("scores")]
    for key, label in SCORES.items():
        values = {entry["epoch"]: entry["scores"][key] for entry in scored if entry["scores"].get(key) is not None}
        if values:
            words = f"{label} {values[best]:.3f}" if best in values else label
            right.plot(list(values), list(values.values()), "-o", label=words, markersize=4)
    right.set(title="Validation scores", xlabel="epoch", ylim=(0, 1))
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if len(epochs) == 1:  # else its neighbours on the axis are parts of an epoch
            axes.set_xlim(0, 2)
        if axes.lines:
            axes.legend(title=f"epoch {best}, the best" if best and axes is right else None)
    figure.suptitle(title, parse_math=False, fontfamily=families(title))
    return png(figure)
