"""Requests made up from the server's own description of itself: none of them is the server's failure."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.clients.command import ROOT, Command

EXAMPLES = 12  # of each operation


def test_no_request_that_the_description_allows_or_forbids_is_a_failure(tiny: Command, tmp_path: Path):
    command = [str(Path(sys.executable).with_name("schemathesis")), "--no-color", "run", f"{tiny.url}/openapi.json"]
    options = {
        "--phases": "examples,coverage,fuzzing",
        "--checks": "not_a_server_error",
        "--max-examples": str(EXAMPLES),
        "--seed": "1",
        "--request-timeout": "60",
    }
    for name, value in options.items():
        command += [name, value]
    env = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.clients.schemathesis_hooks", "PYTHONPATH": str(ROOT)}
    before = tiny.statuses()
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, encoding="utf-8", timeout=900)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    counts = {status: count - before.get(status, 0) for status, count in tiny.statuses().items()}
    assert counts.get("200", 0) > 50 and counts.get("400", 0) > 50, counts
    assert [status for status, count in counts.items() if status >= "500" and count] == []
