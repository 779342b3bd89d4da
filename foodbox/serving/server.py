"""`foodbox serve`: a server that gives a model's HTTP API until it is stopped."""

from __future__ import annotations

import importlib
import socket
from collections.abc import Callable

import numpy as np

from foodbox.errors import FoodboxError, UsageError
from foodbox.files import PathLike
from foodbox.model import Model, load

EXTRA = 'pip install "foodbox[serve]"'


def serve(
    model: Model | PathLike,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    ready: Callable[[str], None] = lambda address: None,
) -> None:
    """Answers requests for a model's detections over HTTP (serving/app.py) until Ctrl-C.

    Args:
        model: a model or its file.
        host: the name or address of this machine under which others reach it; "0.0.0.0" for all that it has.
        port: 0 for one that is free.
        ready: called with the page's address once photos can be sent.

    Raises:
        UsageError: the address cannot be had, or an argument is wrong.
        FoodboxError: what serves is not installed, or the model cannot be read.
    """
    for name in ("fastapi", "python_multipart", "uvicorn"):
        try:
            importlib.import_module(name)
        except ImportError as fault:
            raise FoodboxError(f"Serving needs {name}, which cannot be imported ({fault}): {EXTRA}.") from fault
    import uvicorn

    from foodbox.serving.app import app_of

    with _listening(host, port) as door:
        if not isinstance(model, Model):
            model = load(model)
        model.detect(np.zeros((64, 64, 3), np.uint8))  # so that the first photo does not wait for what is done once
        server = uvicorn.Server(uvicorn.Config(app_of(model), log_level="warning", lifespan="off"))
        ready(f"http://{host if ':' not in host else f'[{host}]'}:{door.getsockname()[1]}")
        server.run(sockets=[door])


def _listening(host: str, port: int) -> socket.socket:
    """A socket that takes requests from now on; they wait until the model is there."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError, TypeError) as fault:
        raise UsageError(
            f"Cannot listen at {host}, port {port} ({fault}): take another --port, 0 for one that is free, or another "
            "--host."
        ) from fault
