"""What a run says of itself, on hand-made logs."""

from typing import Any

import pytest

from foodbox.training.words import outlook


def log(*scores: float | None, masks: bool = False) -> list[dict[str, Any]]:
    """Epochs of ten seconds each."""
    kinds = {"ap": 0.9, "mask_ap": None}
    return [
        {"seconds": 10.0 * (i + 1), "scores": kinds | {"mask_ap" if masks else "ap": score}}
        for i, score in enumerate(scores)
    ]


@pytest.mark.parametrize("masks", [False, True])
def test_a_score_that_still_rises(masks: bool) -> None:
    sentence = outlook(log(0.1, 0.3, 0.2, 0.35, 0.4, 0.38, masks=masks))
    name = "mask AP" if masks else "AP"
    assert sentence == (
        f"{name} rose from 0.300 to 0.400 in the second half of the time: "
        "twice the time would bring less than 0.100 more."
    )


def test_nothing_is_foretold_of_a_score_that_rises_steeply() -> None:
    """Sixteen photos, eight epochs: sixteen epochs brought 0.262."""
    assert outlook(log(0.01, 0.03, 0.05, 0.054, 0.06, 0.07, 0.09, 0.098)) == (
        "AP rose from 0.054 to 0.098 in the second half of the time, and would go on rising: train longer, with more "
        "--epochs or a longer --time."
    )


@pytest.mark.parametrize("scores", [(0.2, 0.5, 0.5, 0.505), (0.4, 0.5, 0.3, 0.2)])
def test_a_score_that_rises_no_more(scores: tuple[float, ...]) -> None:
    sentence = outlook(log(*scores))
    assert sentence is not None
    assert sentence.endswith("more time would not help. A larger input (--size) may, or more and other photos.")


@pytest.mark.parametrize("scores", [(), (0.1, 0.2, 0.3), (0.0, 0.0, 0.0, 0.0), (None, None, None, None)])
def test_too_little_to_judge_by(scores: tuple[float | None, ...]) -> None:
    assert outlook(log(*scores)) is None


def test_epochs_without_a_score_in_the_first_half() -> None:
    """With a budget of time, early epochs may go unscored."""
    late = [{"seconds": 80.0 + i, "scores": {"ap": 0.4, "mask_ap": None}} for i in range(4)]
    sentence = outlook(late)
    assert sentence is None
