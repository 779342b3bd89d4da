"""The figures of a comparison as tables, sentences and a page."""

import csv
import dataclasses
import io
import json
from pathlib import Path

import pytest
from PIL import Image

from foodbox.comparison import page
from foodbox.comparison.results import COLUMNS, Comparison, Trial, duration
from foodbox.comparison.trial import shown_name
from tests.drawing.test_html import NASTY, Balanced


def trial(name: str, ap: float | None, milliseconds: float | None, **more: object) -> Trial:
    fields = {"ap50": 0.9, "seconds": 60.0, "epochs": 5, "parameters": 2_500_000, "multiply_adds": 1_356_107_520}
    course = [(20.0, (ap or 0) / 2), (60.0, ap or 0)]
    return Trial(name, ap=ap, milliseconds=milliseconds, course=course, **(fields | more))  # type: ignore[arg-type]


def comparison(folder: Path, trials: list[Trial], **more: object) -> Comparison:
    names = [t.detector for t in trials]
    basic = Comparison(folder, "lunch", 40, 1, 3, ["rice", NASTY], None, 5, names, trials)
    return dataclasses.replace(basic, **more)  # type: ignore[arg-type]


GOOD, QUICK, NONE = trial("good", 0.5, 80.0), trial("quick", 0.4, 20.0), Trial("masked", refused="No masks <here>.")


def test_the_verdict(tmp_path: Path) -> None:
    words = comparison(tmp_path, [QUICK, GOOD, NONE]).verdict()
    assert words == [
        "good finds best: AP 0.500, AP50 0.900.",
        "quick is the fastest: 20.0 ms a photo with AP 0.400; good takes 4.0 times as long.",
        "Each had 5 epochs on the same 40 photos, and was scored on the same 1 other with 3 boxes.",
    ]
    several = comparison(tmp_path, [QUICK, GOOD], train=1, valid=2, boxes=1).verdict()
    assert several[-1].endswith("on the same 1 photo, and was scored on the same 2 others with 1 box.")
    both = comparison(tmp_path, [trial("all", 0.5, 10.0), GOOD], time=600.0).verdict()
    assert both[0] == "all finds best: AP 0.500, AP50 0.900. It is the fastest, too: 10.0 ms a photo."
    assert both[-1].startswith("Each had 10 minutes on")
    tiled = comparison(tmp_path, [QUICK, dataclasses.replace(GOOD, epochs=3), NONE]).verdict()
    assert tiled[-1].startswith("Each had 5 epochs (fewer where it sees photos in tiles) on")
    assert comparison(tmp_path, [NONE]).verdict()[-1].endswith("None has been scored.")
    assert comparison(tmp_path, [], detectors=["good"]).verdict()[-1].endswith("None has been scored yet.")
    assert "AP unknown" in comparison(tmp_path, [trial("empty", None, None)]).verdict()[0]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(1, "1 second"), (45, "45 seconds"), (60, "1 minute"), (90, "1.5 minutes"), (100, "100 seconds"),
     (600, "10 minutes"), (5400, "1.5 hours"), (7200, "2 hours")],
)  # fmt: skip
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_the_best_of_each_column(tmp_path: Path) -> None:
    result = comparison(tmp_path, [QUICK, GOOD, NONE])
    best = {column.key: result.best_of(column) for column in result.columns}
    assert best == {"ap": 0.5, "ap50": 0.9, "seconds": 60.0, "epochs": None, "milliseconds": 20.0,
                    "parameters": 2_500_000, "multiply_adds": 1_356_107_520}  # fmt: skip


def test_slow_detectors_have_whole_milliseconds(tmp_path: Path) -> None:
    """On the screen, in the verdict and on the page alike."""
    result = comparison(tmp_path, [trial("slow", 0.5, 1102.3), trial("slower", 0.6, 98_765.0)])
    assert "slow is the fastest: 1,102 ms a photo" in result.verdict()[1]
    assert [line.split()[5] for line in result.lines()[1:]] == ["98,765", "1,102"]
    page.write(result, [], [])
    assert "1,102 ms a photo" in Balanced((tmp_path / "report.html").read_text(encoding="utf-8")).words


def test_tables(tmp_path: Path) -> None:
    """The same figures in JSON, CSV and on the screen, best first; none where there is none."""
    result = comparison(tmp_path, [QUICK, GOOD, NONE], detectors=["quick", "good", "masked", "later"])
    result.write_tables()
    told = json.loads((tmp_path / "table.json").read_text(encoding="utf-8"))
    assert told == json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert [row["detector"] for row in told["detectors"]] == ["good", "quick", "masked"]
    assert (told["best"], told["fastest"], told["waiting"]) == ("good", "quick", ["later"])
    assert told["budget"] == {"epochs": 5}
    rows = list(csv.DictReader(io.StringIO((tmp_path / "table.csv").read_text(encoding="utf-8"))))
    assert [(row["detector"], row["ap"], row["memory"], row["refused"]) for row in rows] == [
        ("good", "0.5", "", ""), ("quick", "0.4", "", ""), ("masked", "", "", "No masks <here>.")
    ]  # fmt: skip
    assert {column.key for column in COLUMNS} <= set(rows[0])
    head, first, *_, last = result.lines()
    assert " ".join(head.split()) == "detector AP AP50 training s epochs ms a photo parameters M GMAC"
    assert " ".join(first.split()) == "good 0.500 0.900 60 5 80.0 2.50 1.36"
    assert last == "masked: No masks <here>."


def test_a_trial_there_and_back(tmp_path: Path) -> None:
    file = tmp_path / "trial.json"
    assert Trial.read(file) is None
    GOOD.write(file)
    back = Trial.read(file)
    assert back is not None
    assert dataclasses.asdict(back) == json.loads(json.dumps(dataclasses.asdict(GOOD)))
    file.write_text(file.read_text()[:-5])
    assert Trial.read(file) is None


def test_the_model_lies_beside_its_trial(tmp_path: Path) -> None:
    """Wherever the comparison was moved to."""
    dataclasses.replace(GOOD, model="runs/before/good/best.safetensors").write(tmp_path / "good" / "trial.json")
    back = Trial.read(tmp_path / "good" / "trial.json")
    assert back is not None
    assert back.model == str(tmp_path / "good" / "best.safetensors")


def test_the_page_is_one_file_with_everything(tmp_path: Path) -> None:
    """Whatever names hold; with pictures of the photos that are shown, and without one that is gone."""
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(buffer, "JPEG")
    result = comparison(tmp_path, [GOOD, QUICK, NONE], detectors=["good", "quick", "masked", "later"])
    for name in ("good", "quick"):
        for i in range(2):
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / shown_name(i)).write_bytes(buffer.getvalue())
    page.write(result, ["a.jpg", NASTY], [buffer.getvalue()] * 2)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    told = Balanced(text)
    assert told.tags.count("img") == 1 + 2 * 3  # the chart; the truth and two detectors of each photo
    assert text.count('src="data:image/') == told.tags.count("img")
    assert "http" not in text
    for words in (*result.verdict(), "No masks <here>.", "Not done yet: later.", NASTY, "2.50", "1.36"):
        assert words in told.words
    assert Image.open(tmp_path / "sheet.jpg").size[0] > 3 * 40
    assert Image.open(tmp_path / "compare.png").format == "PNG"

    (tmp_path / "good" / shown_name(1)).unlink()
    page.write(result, ["a.jpg", NASTY], [buffer.getvalue()] * 2)
    assert Balanced((tmp_path / "report.html").read_text(encoding="utf-8")).tags.count("img") == 6


def test_a_page_of_refusals_alone(tmp_path: Path) -> None:
    page.write(comparison(tmp_path, [NONE]), [], [])
    told = Balanced((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "No masks <here>." in told.words
    assert "img" not in told.tags
    assert not (tmp_path / "compare.png").exists()
