"""Starts the command line of the slot that this file lies in: ``launch.py serve`` as the service, else ``edge`` itself.

It chooses the library for this CPU before anything loads one, and lets in no other packages than the slot's own.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

BOX = Path(__file__).resolve().parent
SLOT = BOX.parent
FOREIGN = ("site-packages", "dist-packages")


def main() -> None:
    sys.dont_write_bytecode = True  # the slot stays what was signed
    before = set(sys.modules)
    sys.path.insert(0, str(SLOT))
    box_errors = importlib.import_module(f"{BOX.name}.errors")
    try:
        manifest = importlib.import_module(f"{BOX.name}.slot").read_manifest(SLOT)
        level = choose_level(manifest)
        keys = key_options(os.environ)
    except box_errors.BoxError as error:
        sys.exit(f"error: {error}")
    for name in set(sys.modules) - before:
        if name.partition(".")[0] == BOX.name:
            del sys.modules[name]
    prepare(os.environ, level)
    state = state_folder(os.environ)
    arguments = sys.argv[1:]
    if arguments[:1] == ["serve"]:
        arguments = serve_arguments(manifest, state, [*keys, *arguments[1:]])
    sys.argv = ["edge", *arguments]
    importlib.import_module("edge.cli.main").main()


def choose_level(manifest: Any) -> str:
    """The folder of ``lib`` for this CPU. Raises BoxError, also for a Python that the packages are not for."""
    target = importlib.import_module(f"{BOX.name}.target")
    errors = importlib.import_module(f"{BOX.name}.errors")
    here = target.read_target()
    if misfit := target.python_misfit(manifest, here):
        raise errors.BoxError(misfit, f"run it with python{manifest.python}, or install a box for this Python")
    level = target.best_level(manifest.cpu, here.flags)
    if level is None:
        raise errors.BoxError("no library in this box is for this CPU", "install a box that was made for it")
    return level


def prepare(environment: MutableMapping[str, str], level: str) -> None:
    """For this process and its children."""
    site = str(SLOT / "site")
    outside = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:] = [site] + [
        path for path in sys.path if path not in ("", str(SLOT), str(BOX), *outside) and Path(path).name not in FOREIGN
    ]
    environment.update(
        PYTHONPATH=site,
        PYTHONNOUSERSITE="1",
        PYTHONDONTWRITEBYTECODE="1",
        LLAMA_CPP_LIB_PATH=str(SLOT / "lib" / level),
    )
    environment.setdefault("EDGE_KIOSK_ROOT", str(SLOT.parent.parent))


def state_folder(environment: MutableMapping[str, str]) -> str:
    """Where the server may keep what a restart is quicker with; empty where it may write nothing."""
    if given := environment.get("STATE_DIRECTORY", "").partition(":")[0]:
        environment.setdefault("EDGE_HOME", given)
        return given
    root = SLOT.parent.parent
    folder = root / "state"
    if not folder.is_dir() and os.access(root, os.W_OK):
        folder.mkdir(mode=0o700)
    return str(folder) if os.access(folder, os.W_OK) else ""


def serve_arguments(manifest: Any, state: str, more: Sequence[str]) -> list[str]:
    """Of ``edge serve``: the slot's model, as the manifest says; ``more`` comes last, and so wins."""
    page = SLOT / "kiosk.toml"
    return [
        "serve",
        str(SLOT / "model" / "model.gguf"),
        "--alias",
        manifest.name,
        *(["--kiosk", str(page)] if page.is_file() else []),
        *(["--state-dir", state] if state else []),
        *manifest.serve,
        *more,
    ]


def key_options(environment: Mapping[str, str]) -> list[str]:
    """What systemd hands on of the administrator's files (its ``LoadCredential``)."""
    files = importlib.import_module(f"{BOX.name}.units").KEY_FILES
    folder = environment.get("CREDENTIALS_DIRECTORY", "")
    found = ((option, Path(folder) / name) for name, option in files.items())
    return [word for option, path in found if folder and path.is_file() for word in (option, str(path))]


if __name__ == "__main__":
    main()
