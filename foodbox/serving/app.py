"""The HTTP API: a photo goes in, detections come out, as JSON or drawn; and page.html for people, which asks it."""

from __future__ import annotations

import importlib.metadata
import threading
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Form, Query, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse

from foodbox.data.images import PhotoError, decode, open_header
from foodbox.drawing.boxes import draw_detections, jpeg
from foodbox.errors import FoodboxError
from foodbox.inference.output import JPEG_QUALITY
from foodbox.model import Model

MOST_BYTES = 100 * 2**20
"""Of a request. A photo of the most pixels that are opened has less as a JPEG; what is larger would fill the disk."""
AT_ONCE = 4
"""Photos that are in work at once: one is in the network while others are opened. The 40 threads that FastAPI answers
with would fill the memory with pixels."""
PAGE = Path(__file__).with_name("page.html")

Photo = Annotated[UploadFile, Form(description="A photo of any kind that foodbox opens.")]
MinScore = Annotated[
    float | None, Query(ge=0, le=1, description="Drop detections with a lower score; by default the model's threshold.")
]


def app_of(model: Model) -> FastAPI:
    """A model's HTTP API, to be run by an ASGI server.

    `GET /model` says what the model is. `POST /detect` and `POST /draw` take a form with a photo as `photo`, and give
    what `foodbox detect --json` prints of one, or the photo with its boxes. What is wrong with a request comes back as
    `{"detail": a sentence}` with status 422; more than MOST_BYTES are refused with 413. `GET /openapi.json` describes
    it for programs, `GET /` is the page.
    """
    app = FastAPI(
        title="foodbox",
        version=importlib.metadata.version("foodbox"),
        description=repr(model),
        max_body_size=MOST_BYTES,
        docs_url=None,  # it and ReDoc would have the reader's browser ask another server for their scripts
        redoc_url=None,
    )
    few = threading.BoundedSemaphore(AT_ONCE)

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    def page() -> str:
        return PAGE.read_text(encoding="utf-8")

    @app.get("/model")
    def about() -> dict[str, Any]:
        """The model's detector, classes, and the score from which detections are given."""
        return {"detector": type(model.detector).__name__, "names": model.names, "threshold": model.threshold}

    @app.post("/detect")
    def detect(photo: Photo, min_score: MinScore = None) -> dict[str, Any]:
        """What is on the photo, best first: boxes x1, y1, x2, y2 in its own pixels, EXIF turn applied."""
        with few:
            return model.detect(photo.file, min_score).to_dict() | {"path": photo.filename}

    @app.post("/draw", response_class=Response, responses={200: {"content": {"image/jpeg": {}}}})
    def draw(photo: Photo, min_score: MinScore = None) -> Response:
        """The photo with what was found on it, as a JPEG."""
        with few:
            found = model.detect(photo.file, min_score)
            with open_header(photo.file) as header:
                image = decode(header, photo.file)
            return Response(jpeg(draw_detections(image, found), JPEG_QUALITY), media_type="image/jpeg")

    @app.exception_handler(FoodboxError)
    async def refuse(_: Request, fault: FoodboxError) -> JSONResponse:
        words = " ".join(["The photo", *fault.args[1:]]) if isinstance(fault, PhotoError) else str(fault)
        return JSONResponse({"detail": words}, 422)

    @app.exception_handler(RequestValidationError)
    async def explain(_: Request, fault: RequestValidationError) -> JSONResponse:
        first = fault.errors()[0]
        where = first["loc"][-1]
        words = (
            "There is no photo: send a form with a file as photo, such as curl -F photo=@lunch.jpg."
            if where == "photo"
            else f"{where} is {first['input']!r}: {first['msg'][:1].lower()}{first['msg'][1:]}."
        )
        return JSONResponse({"detail": words}, 422)

    return app
