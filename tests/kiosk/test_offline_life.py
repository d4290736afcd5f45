"""A kiosk's whole life in a namespace without interfaces, where nothing of this checkout can be seen."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from edge.kiosk.box import units
from edge.kiosk.pack import Packed, pack
from tests.kiosk.conftest import CONFIG, MODEL

TITLES = ("Riverside Centre", "Hillside Library")
HERE = Path(__file__).parent
# Hide the folders $1..., which end with --; what is called then sees a loopback alone.
ENTER = """
set -eu
while [ "$1" != -- ]; do mount -t tmpfs -o ro tmpfs "$1"; shift; done
shift
cd /
exec env -i PATH=/usr/bin:/bin LANG=C.UTF-8 "$@"
"""
LOOPBACK_UP = "import sys; sys.path.insert(0, sys.argv[1]); import namespaces; namespaces.loopback_up()"


def unshare() -> list[str]:
    """How to get a network of one's own here; skips where the kernel forbids it."""
    why = "there is no program unshare"
    for options in ("-rnm", "-nm"):
        if shutil.which("unshare"):
            done = subprocess.run(["unshare", options, "true"], capture_output=True, text=True)
            if done.returncode == 0:
                return ["unshare", options]
            why = done.stderr.strip()
    pytest.skip(f"no namespace can be made here: {why}")


@pytest.fixture(scope="module")
def second(box: Packed, tmp_path_factory: pytest.TempPathFactory, signing_key: Path) -> Packed:
    """The same model for another house."""
    folder = tmp_path_factory.mktemp("second")
    (config := folder / "kiosk.toml").write_text(CONFIG.replace(*TITLES), encoding="utf-8")
    gguf = box.box.parent / f"{MODEL}-Q4_0.gguf"
    return pack(gguf, MODEL, folder / "second.edge", key=signing_key, models=folder / "models", config=config, slots=2)


def hidden(shown: Sequence[Path]) -> list[str]:
    """The checkout and its environment, as far as they hold nothing that is needed."""
    folders = [Path(sys.prefix), HERE.parents[1]]  # that may lie in this one, and is hidden with it
    return [str(one) for one in folders if not any(path.is_relative_to(one) for path in shown)]


def test_a_life(box: Packed, second: Packed, tmp_path: Path) -> None:
    (programs := tmp_path / "programs").mkdir()
    for name in ("life.py", "fake_systemd.py"):
        shutil.copy(HERE / name, programs / name)
    shutil.copy(Path(units.__file__).parents[1] / "proof" / "namespaces.py", programs)
    python = str(Path(sys.executable).resolve())  # of the system, not of the environment
    folders = hidden([Path(python), tmp_path, box.box, second.box])
    assert str(HERE.parents[1]) in folders
    told = {
        "box": str(box.box),
        "update": str(second.box),
        "fingerprint": box.fingerprint,
        "titles": TITLES,
        "folder": str(tmp_path),
    }
    inside = '"$1" -I -c "$2" "$3" && exec "$1" -I "$3/life.py" "$4"'
    life = ["sh", "-c", inside, "sh", python, LOOPBACK_UP, str(programs), json.dumps(told)]
    done = subprocess.run(
        [*unshare(), "sh", "-c", ENTER, "sh", *folders, "--", *life], capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    print(f"\na life without a network: {said['seconds']:.0f} s; then {said['attempts']} attempts to get out")
    assert any("rolled back" in line for line in said["log"])
    assert (tmp_path / "report.md").read_text().startswith("# The service reaches no network")
