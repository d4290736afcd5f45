"""Two processes, one model: the second waits and says so; a dead one holds nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge.busy import only_one
from edge.errors import StoreError

HOLD = """
import sys
from pathlib import Path
from edge.busy import only_one
with only_one(Path(sys.argv[1]), "m", print):
    print("held", flush=True)
    sys.stdin.read()
    Path(sys.argv[1] + ".done").touch()
"""


@contextmanager
def another_process(path: Path) -> Iterator[subprocess.Popen[str]]:
    """One that holds ``path`` until its standard input ends."""
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdout is not None and child.stdout.readline() == "held\n"
        try:
            yield child
        finally:
            child.kill()


def test_the_second_waits_and_says_so(tmp_path: Path) -> None:
    said: list[str] = []
    with another_process(tmp_path / "m.lock") as child:

        def say(text: str) -> None:
            said.append(text)
            assert child.poll() is None and child.stdin is not None
            child.stdin.close()  # now, and not before, the other one may end

        with only_one(tmp_path / "m.lock", "tiny-1b", say):
            assert (tmp_path / "m.lock.done").exists(), "the other one has done its work"
    assert said == ["another process works on tiny-1b; waiting for it to end"]


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    with another_process(tmp_path / "m.lock") as child:
        child.kill()
        child.wait()
    with only_one(tmp_path / "m.lock", "m", said.append):
        assert said == []


def test_another_model_is_not_held_up(tmp_path: Path) -> None:
    said: list[str] = []
    with another_process(tmp_path / "m.lock"), only_one(tmp_path / "other.lock", "other", said.append):
        assert said == []


def test_it_is_free_after_a_failure(tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(ZeroDivisionError), only_one(tmp_path / "m.lock", "m", said.append):
        raise ZeroDivisionError
    with only_one(tmp_path / "m.lock", "m", said.append):
        assert said == []


def test_a_place_that_cannot_be_locked(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StoreError, match=r"cannot lock .*choose another place"),
        only_one(tmp_path / "file" / "m.lock", "m", print),
    ):
        pass
