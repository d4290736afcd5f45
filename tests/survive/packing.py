"""``edge pack`` with stand-ins for what takes minutes, and the same bytes each time: ``packing.py pack ARGUMENTS``."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from edge.cli import main
from edge.kiosk import builds, golden, pack, runtime
from edge.kiosk.runtime import Content, Runtime


def run() -> None:
    with tempfile.TemporaryDirectory(prefix="survive-libraries-") as folder:
        made = Path(folder)
        libraries = {name: made / name for name in builds.file_names()}
        for number, path in enumerate(libraries.values()):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"\x7fELF GLIBC_2.31 " + bytes([number]) * 200_000)
        (made / "some.py").write_text("some = 1\n")
        fakes: dict[tuple[Any, str], Any] = {
            (builds, "libraries"): lambda on_progress: libraries,
            (builds, "kept_folder"): lambda: made,
            (runtime, "collect"): lambda staging: Runtime((Content("site/some.py", made / "some.py"),), ()),
            (golden, "ask"): lambda path, questions, ctx: (questions[0], "Yes"),
            (pack, "time"): SimpleNamespace(gmtime=lambda: None, strftime=lambda *_: "2026-11-30T12:00:00Z"),
        }
        for (module, name), fake in fakes.items():
            setattr(module, name, fake)
        main.main()


if __name__ == "__main__":
    run()
