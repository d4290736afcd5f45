"""Stands in for ``box/launch.py``: a runtime that answers at once, as ``behaviour.json`` of its slot says."""

from __future__ import annotations

import json
import os
import socketserver
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path

SLOT = Path(__file__).resolve().parent.parent
BEHAVIOUR = json.loads((SLOT / "behaviour.json").read_text())


class Handler(BaseHTTPRequestHandler):
    has_read_system = "system" not in BEHAVIOUR

    def do_GET(self) -> None:
        kiosk = {"system": BEHAVIOUR["system"]} if "system" in BEHAVIOUR else None
        self.answer({"kiosk": kiosk} if self.path == "/page/settings.json" else {"status": "ok"})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert asked["temperature"] == 0
        if BEHAVIOUR.get("dies"):
            print("error: something broke", file=sys.stderr, flush=True)
            os._exit(3)
        if asked["messages"][0] == {"role": "system", "content": BEHAVIOUR.get("system")}:
            Handler.has_read_system = True
        message = {"role": "assistant", "content": BEHAVIOUR["answer"]}
        speed = BEHAVIOUR["speed"] if self.has_read_system else BEHAVIOUR["speed"] / 2
        timings = {"predicted_n": asked["max_tokens"], "predicted_per_second": speed}
        self.answer({"choices": [{"message": message}], "timings": timings})

    def answer(self, value: object) -> None:
        data = json.dumps(value).encode()
        self.send_response(BEHAVIOUR.get("status", 200))
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *arguments: object) -> None:
        pass


def main() -> None:
    if sys.argv[1] == "plan":
        levels = [{"level": "Q8_0", "here": False, "decode": 1e9}]
        print(json.dumps({"levels": [*levels, {"level": "Q4_K_M", "here": True, "decode": BEHAVIOUR["planned"]}]}))
    elif sys.argv[1] == "serve":
        if BEHAVIOUR.get("fails"):
            sys.exit(f"error: {BEHAVIOUR['fails']}")
        assert sys.argv[2] == "--socket"
        assert os.environ["STATE_DIRECTORY"] == str(Path.cwd())
        with socketserver.UnixStreamServer(sys.argv[3], Handler) as server:
            server.serve_forever()


if __name__ == "__main__":
    main()
