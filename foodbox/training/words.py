"""What a run says of itself: a line an epoch, and at its end what more time would give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

MIN_SCORED = 4
"""Scored epochs below which a run says nothing about a longer one."""
SLOWING = 0.5
"""A second half that gains more than this share of what the first had reached is not slowing yet."""
AP_NOISE = 0.01
"""Differences in AP below this are chance: the same run with another seed differs by more (docs/benchmarks.md)."""


def epoch_line(entry: dict[str, Any], end: str) -> str:
    """One epoch in one line.

    Args:
        entry: its entry in the log.
        end: of how many it is.
    """
    losses, scores = entry["losses"], entry["scores"]
    parts = ", ".join(f"{part} {value:.3f}" for part, value in losses.items())
    found = {"AP": scores["ap"], "AP50": scores["ap50"], "mask AP": scores["mask_ap"], "mean IoU": scores["mean_iou"]}
    figures = "  ".join(f"{name} {value:.3f}" for name, value in found.items() if value is not None)
    loss = f"loss {sum(losses.values()):.3f} ({parts})"
    return f"epoch {entry['epoch']:>3}{end}  {loss}  {figures}  {entry['seconds']:.0f} s"


def outlook(log: Sequence[dict[str, Any]]) -> str | None:
    """One sentence on a run of twice the time; None where too few epochs were scored.

    Once scores rise more slowly, twice the time gains less than the second half of this run did. Even that is too
    much: part of the gain comes from the falling rate, which a run of half the time would have had too. While they
    rise as steeply as ever nothing can be said but that there is more to gain.

    Args:
        log: entries of the run's scored epochs, with "seconds" and "scores".
    """
    if len(log) < MIN_SCORED:
        return None
    kind = "ap" if log[-1]["scores"].get("mask_ap") is None else "mask_ap"
    name = {"ap": "AP", "mask_ap": "mask AP"}[kind]
    scored = [(entry["seconds"], entry["scores"][kind] or 0.0) for entry in log]
    half = scored[-1][0] / 2
    early = [score for seconds, score in scored if seconds <= half]
    before, after = max(early, default=0.0), max(score for seconds, score in scored if seconds > half)
    if not early or after < AP_NOISE:
        return None  # nothing that could be judged by
    if after - before < AP_NOISE:
        return (
            f"The second half of the time brought nothing ({name} {before:.3f} before, {after:.3f} after): more time "
            "would not help. A larger input (--size) may, or more and other photos."
        )
    rose = f"{name} rose from {before:.3f} to {after:.3f} in the second half of the time"
    if after - before > SLOWING * before:
        return f"{rose}, and would go on rising: train longer, with more --epochs or a longer --time."
    return f"{rose}: twice the time would bring less than {after - before:.3f} more."
