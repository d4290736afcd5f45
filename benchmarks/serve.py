"""Our server beside llama-server and llama_cpp.server: tokens/s and time to the first token.

    python -m benchmarks.serve [MODEL.gguf] [--runs 5] [--threads 2] [--only throughput,shared,python,http,crowd,start]

The same file, threads, slots (4) and context; servers run side by side, one of them is asked at a time, by turns; a
ratio is of one run, printed is the median. The clock of a client starts before it connects; a first token is the first
event with text. llama-server is built from the source that llama-cpp-python ships.

throughput: 1, 2 and 4 clients, each two answers of 64 tokens to prompts of its own (about 100 tokens).
shared:     4 clients arrive together with the same system prompt of about 1,100 tokens and questions of their own.
python:     4 clients, against llama_cpp.server.
http:       decode tokens/s through HTTP, and by edge.Engine in a process without a server: for a client that sleeps
            between its first token and the end, and for one that reads on the same cores.
crowd:      32 clients at once: each gets an answer or a 429; memory before and after.
start:      seconds from the start of `edge serve` until /health says ok, the file in the system's cache.

The last line is JSON.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path

from benchmarks import peer_bench, servers
from benchmarks.models import REAL, level_files
from benchmarks.options import heading, parser
from benchmarks.serve_clients import Seen, ask_asleep, completion, percentile, text, together
from benchmarks.servers import Running, Setup, llama_cpp_python, llama_server, ours, running

SLOTS, CTX = 4, 4096
PORTS = {ours: 18111, llama_server: 18112, llama_cpp_python: 18113}
ANSWER = 64
SHARED = 1100
CROWD = 32
PARTS = ("throughput", "shared", "python", "http", "crowd", "start")
ROOT = Path(__file__).resolve().parents[1]
PATH = "/v1/completions"

Results = dict[str, float]
Round = tuple[float, float, float]
"""Tokens/s, TTFT p95 and TTFT of the first client."""

seeds: Iterator[int] = count(1)


def median(values: list[float]) -> float:
    return statistics.median(values)


def rounds(port: int, clients: int, answers: int) -> Round:
    """Each client asks so many times in turn, prompts of its own."""
    seen: list[Seen] = []
    seconds = 0.0
    for _ in range(answers):
        bodies = [completion(text(100, next(seeds)), ANSWER) for _ in range(clients)]
        some, took = together(port, PATH, bodies)
        seen, seconds = seen + some, seconds + took
    return figures(seen, seconds)


def shared_prompt(port: int, clients: int) -> Round:
    system = text(SHARED, next(seeds))
    bodies = [completion(f"{system}\n{text(12, next(seeds))}", ANSWER) for _ in range(clients)]
    return figures(*together(port, PATH, bodies))


def figures(seen: list[Seen], seconds: float) -> Round:
    if wrong := [one.status for one in seen if one.status != 200]:
        raise SystemExit(f"a server answered {wrong}")
    ttft = [one.ttft for one in seen]
    return sum(one.tokens for one in seen) / seconds, percentile(ttft, 0.95), min(ttft)


def compare(
    name: str, work: Callable[[int], Round], mine: Running, theirs: Running, runs: int, results: Results
) -> None:
    """Interleaved; prints the medians of both and of the ratios."""
    pairs: list[tuple[Round, Round]] = []
    for run in range(runs):
        if run % 2:
            other = work(theirs.port)
            pairs.append((work(mine.port), other))
        else:
            pairs.append((work(mine.port), work(theirs.port)))
    speed = median([one[0] / other[0] for one, other in pairs])
    late = median([one[1] / other[1] for one, other in pairs])
    own = median([one[1] / one[2] for one, _ in pairs])
    tokens = f"{median([one[0] for one, _ in pairs]):.1f} / {median([other[0] for _, other in pairs]):.1f}"
    ttft = f"{median([one[1] for one, _ in pairs]):.2f} / {median([other[1] for _, other in pairs]):.2f}"
    print(f"{name}: tokens/s {tokens} = {speed:.3f}; TTFT p95 {ttft} s = {late:.3f}; ", end="")
    print(f"ours p95 / our first {own:.2f}", flush=True)
    results |= {f"{name} speed": speed, f"{name} ttft": late, f"{name} p95/first": own}


def http_cost(setup: Setup, mine: Running, runs: int, results: Results) -> None:
    """The engine alone is a child that measures the same request, while the server sleeps."""
    ratios: dict[str, list[float]] = {"http": [], "http, client reading": []}
    for _ in range(runs):
        prompt, tokens = text(100, next(seeds)), 256
        body = completion(prompt, tokens)
        asleep = ask_asleep(mine.port, PATH, body)
        (reading,), _ = together(mine.port, PATH, [body])
        command = [sys.executable, "-m", "benchmarks.serve_alone", str(setup.model), str(setup.threads), str(tokens)]
        done = subprocess.run([*command, prompt], capture_output=True, text=True, cwd=ROOT)
        if done.returncode:
            raise SystemExit(done.stderr[-2000:])
        for name, seen in zip(ratios, (asleep, reading), strict=True):
            ratios[name].append((tokens - 1) / (seen.seconds - seen.ttft) / float(done.stdout))
    for name, found in ratios.items():
        print(f"{name}: through HTTP / engine alone {median(found):.3f} ({min(found):.3f} to {max(found):.3f})")
        results[name] = median(found)


def crowd(mine: Running, results: Results) -> None:
    before = mine.memory
    seen, seconds = together(mine.port, PATH, [completion(text(100, next(seeds)), 16) for _ in range(CROWD)])
    statuses = Counter(one.status for one in seen)
    print(f"crowd: {CROWD} clients, statuses {dict(statuses)}, {seconds:.0f} s, ", end="")
    print(f"memory {before / 1e6:.0f} MB before, {mine.memory / 1e6:.0f} MB after", flush=True)
    if statuses.keys() - {200, 429}:
        raise SystemExit("a client got neither an answer nor a 429")
    results |= {"crowd answered": statuses[200], "crowd memory": mine.memory / before}


def main() -> None:
    options = parser("Compares edge serve with llama-server and llama_cpp.server.")
    options.add_argument("--only", default=",".join(PARTS))
    given = options.parse_args()
    parts = given.only.split(",")
    peer_bench.build(given.threads)
    setup = Setup(given.model or level_files(REAL)["Q4_0"], given.threads, SLOTS, CTX)
    print(f"{heading(given)}; {setup.model.name}; {SLOTS} slots of {CTX} tokens; ours / theirs", flush=True)
    results: Results = {}
    with running(ours, setup, PORTS[ours]) as mine:
        rounds(mine.port, 1, 1)  # warms up
        if "throughput" in parts or "shared" in parts:
            with running(llama_server, setup, PORTS[llama_server]) as theirs:
                rounds(theirs.port, 1, 1)
                for clients in (1, 2, 4) if "throughput" in parts else ():
                    work = partial(rounds, clients=clients, answers=2)
                    compare(f"{clients} clients", work, mine, theirs, given.runs, results)
                if "shared" in parts:
                    compare("shared prompt", partial(shared_prompt, clients=4), mine, theirs, given.runs, results)
        if "python" in parts:
            servers.install_llama_cpp_python()
            with running(llama_cpp_python, setup, PORTS[llama_cpp_python]) as theirs:
                rounds(theirs.port, 1, 1)
                compare(
                    "llama_cpp.server, 4 clients",
                    partial(rounds, clients=4, answers=1),
                    mine,
                    theirs,
                    given.runs,
                    results,
                )
        if "http" in parts:
            http_cost(setup, mine, given.runs, results)
        if "crowd" in parts:
            crowd(mine, results)
    if "start" in parts:
        ready = []
        for _ in range(given.runs):
            with running(ours, setup, PORTS[ours]) as mine:
                ready.append(mine.ready)
        print(f"start: ready after {median(ready):.2f} s ({min(ready):.2f} to {max(ready):.2f})")
        results["start"] = median(ready)
    print(json.dumps({"threads": given.threads, "results": {name: round(value, 4) for name, value in results.items()}}))


if __name__ == "__main__":
    main()
