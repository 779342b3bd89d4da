"""`foodbox serve` as a person runs it: from the command to Ctrl-C, and what may be in its way."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

import foodbox
from foodbox.errors import FoodboxError, UsageError
from foodbox.model import Model
from tests.conftest import STOPPABLE

pytest.importorskip("fastapi")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals to send.")
@pytest.mark.parametrize("as_json", [True, False])
def test_from_the_command_to_ctrl_c(as_json: bool, model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "best.safetensors")
    command = [sys.executable, "-c", STOPPABLE, "serve", str(tmp_path / "best.safetensors"), "--port", "0"]
    with subprocess.Popen(
        command + ["--json"] * as_json, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        try:
            line = server.stdout.readline()
            address = json.loads(line)["address"] if as_json else line.split()[0]
            assert re.fullmatch(r"http://127\.0\.0\.1:\d+", address)
            with urllib.request.urlopen(f"{address}/model", timeout=60) as answer:
                assert json.load(answer)["names"] == model.names
            server.send_signal(signal.SIGINT)
            rest, words = server.communicate(timeout=60)
        finally:
            server.kill()
    assert (server.returncode, rest, words) == (130, "", "foodbox: stopped.\n")


def test_a_port_that_another_has(model: Model) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UsageError, match=rf"Cannot listen at 127\.0\.0\.1, port {port} .*: take another --port"):
            foodbox.serve(model, port=port)


@pytest.mark.parametrize(
    ("host", "port"), [("127.0.0.1", 70_000), ("nowhere.invalid", 0), ("127.0.0.1", -1), ("127.0.0.1", "80")]
)
def test_an_address_that_there_is_not(model: Model, host: str, port: Any) -> None:
    with pytest.raises(UsageError, match=f"Cannot listen at {host}, port {port}"):
        foodbox.serve(model, host=host, port=port)


def test_without_the_extra_it_is_named(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(FoodboxError, match=r'Serving needs uvicorn.*pip install "foodbox\[serve\]"'):
        foodbox.serve(model)
