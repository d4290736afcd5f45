"""What tests of the real service share.

``box``: a real box of tiny-qwen at Q4_0 with a kiosk.toml, and ``update``, another at Q8_0; both are an
``edge.kiosk.pack.Packed``, packed once a session and signed with ``signing_key``. llama.cpp is compiled once and kept
in the user's cache. ``gguf``: tiny-qwen alone. ``hanging``: a library that hangs.
"""

from __future__ import annotations

import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest

from convert.pipeline import convert
from edge.kiosk import keys
from edge.kiosk.pack import Packed, pack

MODEL = "tiny-qwen"
CONFIG = """\
title = "Riverside Centre"
language = "en"
system = "You are the guide of the Riverside Centre."
questions = ["When do you open?", "Where is the lift?"]
idle_seconds = 90
"""


@pytest.fixture(scope="session")
def signing_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "kiosk-key.pem"
    keys.new_key(path)
    return path


@pytest.fixture(scope="session")
def box(tmp_path_factory: pytest.TempPathFactory, signing_key: Path) -> Packed:
    """What an integrator carries to a new kiosk."""
    return packed("Q4_0", tmp_path_factory.mktemp("box"), signing_key)


@pytest.fixture(scope="session")
def update(tmp_path_factory: pytest.TempPathFactory, signing_key: Path) -> Packed:
    """Another box by the same maker; all but its weights is the same."""
    return packed("Q8_0", tmp_path_factory.mktemp("update"), signing_key)


def packed(level: str, folder: Path, key: Path) -> Packed:
    gguf, config = folder / f"{MODEL}-{level}.gguf", folder / "kiosk.toml"
    convert(Path(str(files("edge.models") / MODEL)), {level: gguf})
    config.write_text(CONFIG, encoding="utf-8")
    return pack(gguf, MODEL, folder / f"{level}.edge", key=key, models=folder / "models", config=config, slots=2)


@pytest.fixture(scope="session")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kiosk") / "tiny-qwen-Q8_0.gguf"
    convert(Path(str(files("edge.models") / "tiny-qwen")), {"Q8_0": path})
    return path


@pytest.fixture(scope="session")
def hanging(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that hangs, for LD_PRELOAD."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    assert compiler, "a C compiler is needed, as for building llama.cpp"
    target = tmp_path_factory.mktemp("hang") / "hang.so"
    source = Path(__file__).with_name("hang.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(target), str(source), "-ldl"], check=True)
    return target
