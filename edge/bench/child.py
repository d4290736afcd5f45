"""Runs a measurement in a process of its own, and reads what it says: a JSON object a line.

A child, because a file that llama.cpp cannot bear may end the process, and because memory and threads of one
measurement shall not touch the next.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from convert.errors import EdgeError
from edge.gate import how_it_ended, parse_message


def run_child(
    module: str, arguments: Sequence[str], doing: str, on_message: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """``python -m module arguments``. Its last message holds ``found``, which is returned, or ``failed`` and ``hint``;
    the others go to ``on_message``. ``doing``: file and task, for messages. It is killed where this is interrupted.

    Raises EdgeError.
    """
    last: dict[str, Any] = {}
    with (
        tempfile.TemporaryFile() as errors,  # a pipe that nobody empties would stop the child
        subprocess.Popen(
            [sys.executable, "-P", "-m", module, *arguments],
            stdout=subprocess.PIPE,
            stderr=errors,
            stdin=subprocess.DEVNULL,
        ) as child,
    ):
        assert child.stdout
        try:
            for line in child.stdout:
                if message := parse_message(line):
                    on_message(last := message)
            child.wait()
        except BaseException:
            child.kill()
            raise
        errors.seek(0)
        why = how_it_ended(child.returncode, errors.read().decode("utf-8", "replace"))
    if "failed" in last:
        name = doing.rpartition(":")[0]  # which may have colons itself
        raise EdgeError(last["failed"] if name in last["failed"] else f"{name}: {last['failed']}", last["hint"])
    if child.returncode or "found" not in last:
        raise EdgeError(f"{doing} ended badly: {why}", "check the file with `edge show`; is there enough memory?")
    return last["found"]
