"""The HTTP API gives what the model gives, and a sentence where a request is wrong."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from foodbox.data.images import open_photo
from foodbox.drawing.boxes import draw_detections, jpeg
from foodbox.inference.output import JPEG_QUALITY
from foodbox.model import Model
from foodbox.serving import app as app_file

TestClient = pytest.importorskip("fastapi.testclient").TestClient


@pytest.fixture
def client(model: Model) -> Any:
    return TestClient(app_file.app_of(model))


def form(photo: Path | bytes) -> dict[str, Any]:
    return {"photo": ("lunch.jpg", photo.read_bytes() if isinstance(photo, Path) else photo)}


@pytest.mark.parametrize("least", [None, 0.0, 0.7])
def test_detections_are_those_of_the_model(client: Any, model: Model, photo: Path, least: float | None) -> None:
    params = {} if least is None else {"min_score": least}
    answer = client.post("/detect", params=params, files=form(photo))
    assert answer.status_code == 200
    assert answer.json() == model.detect(photo, least).to_dict() | {"path": "lunch.jpg"}
    assert (answer.json()["width"], answer.json()["height"]) == (120, 90)
    assert len(answer.json()["detections"]) > 0 or least == 0.7


def test_the_drawn_photo_is_that_of_detect(client: Any, model: Model, photo: Path) -> None:
    answer = client.post("/draw", files=form(photo))
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.content == jpeg(draw_detections(open_photo(photo), model.detect(photo)), JPEG_QUALITY)
    with Image.open(io.BytesIO(answer.content)) as image:
        assert image.size == (120, 90)


def test_what_the_model_is(client: Any, model: Model) -> None:
    assert client.get("/model").json() == {"detector": "RetinaNet", "names": model.names, "threshold": 0.25}
    paths = client.get("/openapi.json").json()["paths"]
    assert set(paths) == {"/model", "/detect", "/draw"}


def test_the_page_asks_nobody_else(client: Any) -> None:
    """It works without a network, and tells no other server of the photos."""
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    for path in ("detect?min_score", "draw?min_score", "model"):
        assert f'ask("{path}' in page.text or f"ask(`{path}" in page.text
    assert "//" not in page.text.replace("http://www.w3.org/2000/svg", "").replace("// ", "")


@pytest.mark.parametrize("path", ["/detect", "/draw"])
@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({}, "There is no photo: send a form with a file as photo"),
        ({"data": {"photo": "lunch.jpg"}}, "There is no photo: send a form with a file as photo"),
        ({"files": form(b"a text")}, "The photo is no photo, whatever its name says"),
        ({"files": form(b"")}, "The photo is no photo, whatever its name says"),
        ({"files": form(b"x"), "params": {"min_score": 2}}, "min_score is '2': input should be less than or equal"),
        ({"files": form(b"x"), "params": {"min_score": "nan"}}, "min_score is 'nan': input should be"),
    ],
)
def test_a_wrong_request_gets_a_sentence(client: Any, path: str, request_: dict[str, Any], words: str) -> None:
    answer = client.post(path, **request_)
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(words)


def test_a_photo_cut_short(client: Any, photo: Path) -> None:
    for path in ("/detect", "/draw"):
        answer = client.post(path, files=form(photo.read_bytes()[:700]))
        assert answer.status_code == 422
        assert answer.json()["detail"].startswith("The photo is a broken photo")


def test_what_is_too_large_is_refused(model: Model, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_file, "MOST_BYTES", 1000)
    client = TestClient(app_file.app_of(model))
    assert client.post("/detect", files=form(photo)).status_code == 413
    assert client.post("/detect", files=form(b"x")).status_code == 422


def test_photos_of_many_at_once(client: Any, model: Model, tmp_path: Path) -> None:
    """Each gets its own photo's detections."""
    photos = []
    for i in range(12):
        photos.append(tmp_path / f"{i}.png")
        Image.effect_noise((60 + 5 * i, 80), 90).convert("RGB").save(photos[-1])
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda path: client.post("/detect", files=form(path)).json(), photos))
    wanted = [model.detect(path).to_dict()["detections"] for path in photos]
    assert [answer["detections"] for answer in answers] == wanted
    assert len({str(one) for one in wanted}) == len(photos)
