"""The gate: a freshly converted GGUF is tried in a child process before it gets its name.

A child, because a file that llama.cpp cannot bear may end the process. The child (``edge.gate_checks``) prints a
JSON line for each check it begins and one for its result; an end without a result is a failure too.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge import machine
from edge.errors import GateError

MEMORY_BESIDE_WEIGHTS = 600_000_000  # bytes: KV cache and logits of a short context, the reference tokenizer, Python
CHECKS = ("load", "end tokens", "token ids", "chat template", "perplexity en", "perplexity zh", "answer")

OnCheck = Callable[[str, int, int], None]  # name of the check that begins, its number, how many


def run_gate(gguf: Path, checkpoint: Path, on_check: OnCheck | None = None) -> dict[str, Any]:
    """Check ``gguf``, made from ``checkpoint``. Returns what was found, for the report beside the file.

    Where the model does not fit in memory nothing is run and the result says so: ``{"passed": None, "needs_gb"}``.
    Raises GateError naming the check that failed and why.
    """
    needed = gguf.stat().st_size + MEMORY_BESIDE_WEIGHTS
    if needed > machine.memory().available:
        return {"passed": None, "needs_gb": round(needed / 1e9, 1)}
    command = [sys.executable, "-P", "-m", "edge.gate_checks", str(gguf), str(checkpoint)]
    name, current = gguf.name.removesuffix(".partial"), CHECKS[0]
    result: dict[str, Any] | None = None
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL) as child:
        assert child.stdout and child.stderr
        try:
            for line in child.stdout:
                message = parse_message(line)
                if message.get("begin") in CHECKS:
                    current = message["begin"]
                    if on_check:
                        on_check(current, CHECKS.index(current), len(CHECKS))
                elif message.get("passed") is True or "failed" in message:
                    result = message
            errors = child.stderr.read().decode("utf-8", "replace")
        except BaseException:
            child.kill()
            raise
    if result is None or child.returncode not in (0, 1):
        raise GateError(
            f"{name}: the check {current!r} ended badly: {how_it_ended(child.returncode, errors)}", KEEP_HINT
        )
    if "failed" in result:
        raise GateError(f"{name}: the check {result['failed']!r} failed: {result['why']}", KEEP_HINT)
    return result


KEEP_HINT = "the file was not put in place; --no-check would do so all the same"


def parse_message(line: bytes) -> dict[str, Any]:
    """What the child says; anything else on its output (a library may print there) is empty."""
    try:
        message = json.loads(line)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


def how_it_ended(code: int, errors: str) -> str:
    """An exit code and what the child wrote, in a line."""
    last = errors.strip().splitlines()[-1:] or [""]
    if code < 0:
        return f"llama.cpp crashed ({signal.Signals(-code).name}) {last[0]}".strip()
    return f"exit code {code} {last[0]}".strip()
