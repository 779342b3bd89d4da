"""Processes that work side by side: what they are, and what is said where they cannot."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from foodbox.data.processes import processes
from foodbox.errors import FoodboxError

SCRIPT = """
from pathlib import Path
from foodbox.data.tables import write_tables
write_tables(Path("drawn"), 2, workers=2)
"""


@pytest.mark.parametrize("fresh", [False, True])
def test_they_leave_interrupts_to_their_parent_and_have_one_thread(fresh: bool) -> None:
    with processes(1, fresh) as pool:
        assert pool.submit(signal.getsignal, signal.SIGINT).result() == signal.SIG_IGN
        assert pool.submit(torch.get_num_threads).result() == 1
        assert pool.submit(os.getpid).result() != os.getpid()


def test_one_that_ends_by_itself() -> None:
    with pytest.raises(FoodboxError, match="ended by itself: most often memory was short"), processes(1) as pool:
        list(pool.map(os._exit, [3]))


def test_other_faults_stay_as_they_are() -> None:
    with pytest.raises(ZeroDivisionError), processes(1) as pool:
        list(pool.map(divmod, [1], [0]))
    with pytest.raises(RuntimeError, match="shape"), processes(1) as pool:
        list(pool.map(torch.reshape, [torch.zeros(3)], [(2,)]))


def test_a_script_that_does_not_expect_them(tmp_path: Path) -> None:
    script = tmp_path / "draw.py"
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode != 0
    *_, last = done.stderr.strip().splitlines()
    assert "ended by itself" in last
    assert "This script is read by a process that it started" in done.stderr
    assert not list((tmp_path / "drawn").rglob("*.jpg"))
