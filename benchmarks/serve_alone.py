"""Decode tokens/s of one request by edge.Engine, in a process without a server.

python -m benchmarks.serve_alone MODEL.gguf THREADS TOKENS PROMPT
"""

from __future__ import annotations

import sys

from edge import Engine


def main() -> None:
    path, threads, tokens, prompt = sys.argv[1:]
    with Engine(path, threads=int(threads), slots=4) as engine:
        (result,) = engine.generate([prompt], max_tokens=int(tokens), temperature=0, ignore_eos=True)
        print(result.timings.decode_rate)


if __name__ == "__main__":
    main()
