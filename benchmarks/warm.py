"""A kiosk's first token after a restart: with what the last start kept, and without.

    python -m benchmarks.warm [MODEL.gguf] [--runs 5] [--threads 2] [--tokens 1200]

`edge serve --kiosk --state-dir` with a system prompt of about so many tokens, the model's file in the system's cache.
The clock starts before the process does, and stops at the first event with text of a visitor's question, who tries
again until the server takes it. Cold starts find an empty state folder, warm ones what a cold one left; they take
turns, and printed are medians.

start:   first token of a warm start / of a cold one (at most 1/3 is wanted).
restore: the seconds that putting the prefix back took, reading and checking the file included / those that the cold
         start computed for it (at most 1/50 is wanted). Both are what the server says.

The last line is JSON.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.models import REAL, level_files
from benchmarks.options import heading, parser
from benchmarks.serve_clients import text

PORT = 18114
SLOTS, CTX = 4, 4096
PATIENCE = 300.0  # seconds
ROOT = Path(__file__).resolve().parents[1]
SAID = re.compile(r"^(cold|warm) start: (\d+) tokens (?:computed|restored) in ([\d.]+) s$", re.MULTILINE)


@dataclass(frozen=True)
class Start:
    """Seconds from the start of the process: until it took the question, and to the first token of the answer; and what
    it said of its prefix."""

    ready: float
    first: float
    kind: str
    tokens: int
    prefix: float


def start(model: Path, threads: int, kiosk: Path, folder: Path, system: str) -> Start:
    options = ["--slots", SLOTS, "--ctx", CTX, "-t", threads, "--port", PORT, "--kiosk", kiosk, "--state-dir", folder]
    command = [sys.executable, "-m", "edge", "serve", str(model), *map(str, options)]
    messages = [{"role": "system", "content": system}, {"role": "user", "content": "What can I see here?"}]
    body = json.dumps({"messages": messages, "temperature": 0, "max_tokens": 8, "stream": True})
    with tempfile.TemporaryFile() as log:
        began = time.monotonic()
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT)
        try:
            ready, first = ask(process, body, began)
            until_said(process, log.fileno())
        finally:
            process.terminate()
            process.wait(30)
        log.seek(0)
        said = SAID.search(log.read().decode())
    if said is None:
        raise SystemExit("the server said nothing of its prefix")
    return Start(ready, first, said[1], int(said[2]), float(said[3]))


def ask(process: subprocess.Popen[bytes], body: str, began: float) -> tuple[float, float]:
    """Until the server takes the question; then until the first event with text."""
    while process.poll() is None and time.monotonic() - began < PATIENCE:
        server = http.client.HTTPConnection("127.0.0.1", PORT, timeout=PATIENCE)
        try:
            asked = time.monotonic() - began
            server.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
            answer = server.getresponse()
            if answer.status == 200:
                for line in answer:
                    if line.startswith(b"data: {") and json.loads(line[6:])["choices"][0]["delta"].get("content"):
                        return asked, time.monotonic() - began
        except ConnectionError:
            pass
        finally:
            server.close()
        time.sleep(0.01)
    raise SystemExit("the server does not answer")


def until_said(process: subprocess.Popen[bytes], log: int) -> None:
    """Wait until the server has told of its prefix, which it then writes to disk before it ends."""
    end = time.monotonic() + PATIENCE
    while process.poll() is None and not SAID.search(os.pread(log, 1 << 16, 0).decode()) and time.monotonic() < end:
        time.sleep(0.01)


def main() -> None:
    options = parser("Compares warm starts of edge serve with cold ones.")
    options.add_argument("--tokens", type=int, default=1200, help="of the system prompt, about")
    given = options.parse_args()
    model = given.model or level_files(REAL)["Q4_0"]
    system = text(given.tokens, 1)
    cold: list[Start] = []
    warm: list[Start] = []
    with tempfile.TemporaryDirectory() as name:
        folder, kiosk = Path(name) / "state", Path(name) / "kiosk.toml"
        kiosk.write_text(f'system = "{system}"\nquestions = ["Where is the exit?"]\n')
        with model.open("rb") as file:
            while file.read(1 << 24):  # into the system's cache
                pass
        for _ in range(given.runs):
            shutil.rmtree(folder, ignore_errors=True)
            cold.append(start(model, given.threads, kiosk, folder, system))
            warm.append(start(model, given.threads, kiosk, folder, system))
    if {one.kind for one in cold} != {"cold"} or {one.kind for one in warm} != {"warm"}:
        raise SystemExit("a start was not what it was to be")
    print(f"{heading(given)}; {model.name}; {cold[0].tokens} tokens in common; cold / warm")
    ready, first = median_of(cold, warm, "ready"), median_of(cold, warm, "first")
    prefix = median_of(cold, warm, "prefix")
    starts = statistics.median(one.first / other.first for one, other in zip(warm, cold, strict=True))
    restores = statistics.median(one.prefix / other.prefix for one, other in zip(warm, cold, strict=True))
    print(f"takes a question: {ready[0]:.2f} / {ready[1]:.2f} s")
    print(f"start: first token {first[0]:.2f} / {first[1]:.2f} s = 1/{1 / starts:.1f} (wanted 1/3)")
    print(f"restore: prefix {prefix[0]:.2f} / {prefix[1]:.3f} s = 1/{1 / restores:.0f} (wanted 1/50)")
    results = {"cold first": first[0], "warm first": first[1], "start": starts, "restore": restores}
    rounded = {name: round(value, 4) for name, value in results.items()}
    print(json.dumps({"threads": given.threads, "tokens": cold[0].tokens, "results": rounded}))


def median_of(cold: list[Start], warm: list[Start], name: str) -> tuple[float, float]:
    return statistics.median(getattr(one, name) for one in cold), statistics.median(getattr(one, name) for one in warm)


if __name__ == "__main__":
    main()
