"""Boxes of a tiny model with stand-ins for what takes minutes; tests/kiosk packs real ones."""

from __future__ import annotations

import hashlib
import json
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest
from click.testing import CliRunner

from convert.errors import EdgeError
from convert.pipeline import convert
from edge import store
from edge.cli.main import cli
from edge.kiosk import builds, golden, keys, runtime
from edge.kiosk.box import ed25519
from edge.kiosk.box.container import check_whole, open_box
from edge.kiosk.box.manifest import parse
from edge.kiosk.pack import Packed, needed_memory, pack
from edge.kiosk.runtime import Content, Runtime
from edge.lock_file import read_lock
from edge.model_file import read_sane


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("packed") / "tiny-qwen-Q8_0.gguf"
    convert(Path(str(files("edge.models") / "tiny-qwen")), {"Q8_0": path})
    return path


@pytest.fixture
def key(tmp_path: Path) -> Path:
    keys.new_key(tmp_path / "key.pem")
    return tmp_path / "key.pem"


@pytest.fixture(autouse=True)
def stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """No compiler, no packages, no model in memory. What was asked of the model is in the list."""
    monkeypatch.setenv("EDGE_HOME", str(tmp_path / "home"))
    asked: list[str] = []
    made = tmp_path / "libraries"
    libraries = {name: made / name for name in builds.file_names()}
    for name, path in libraries.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\x7fELF GLIBC_2.31 " + name.encode())
    module = made / "same.py"
    module.write_text("same = 1\n")
    site = Runtime((Content("site/a.py", module), Content("site/b.py", module)), ("BSD-3-Clause",))

    def ask(path: Path, questions: list[str], ctx: int) -> tuple[str, str]:
        asked.extend(questions)
        return questions[0], "Yes"

    monkeypatch.setattr(builds, "libraries", lambda on_progress: libraries)
    monkeypatch.setattr(builds, "kept_folder", lambda: tmp_path)
    monkeypatch.setattr(runtime, "collect", lambda staging: site)
    monkeypatch.setattr(golden, "ask", ask)
    return asked


@pytest.fixture
def packed(gguf: Path, key: Path, tmp_path: Path) -> Packed:
    return pack(gguf, "tiny-qwen", tmp_path / "box.edge", key=key, models=tmp_path / "models", slots=2)


def test_a_box_is_whole_and_signed_by_the_key(packed: Packed, key: Path) -> None:
    box = open_box(packed.box)
    manifest = parse(box.manifest)
    check_whole(box, manifest.files)
    assert manifest == packed.manifest
    assert ed25519.verify(box.key, box.manifest, box.signature)
    assert keys.fingerprint(box.key) == packed.fingerprint == keys.fingerprint(keys.public_bytes(keys.read_key(key)))
    assert packed.size == packed.box.stat().st_size


def test_the_model_lies_in_it_byte_for_byte(packed: Packed, gguf: Path) -> None:
    (entry,) = (entry for entry in packed.manifest.files if entry.path == "model/model.gguf")
    content = packed.box.read_bytes()[entry.offset : entry.offset + entry.size]
    assert content == gguf.read_bytes()
    assert hashlib.sha256(content).hexdigest() == entry.sha256


def test_content_that_is_there_twice_is_stored_once(packed: Packed) -> None:
    places = {entry.path: entry.offset for entry in packed.manifest.files}
    assert places["site/a.py"] == places["site/b.py"]


def test_the_manifest_says_what_the_target_must_have(packed: Packed, gguf: Path) -> None:
    manifest = packed.manifest
    assert (manifest.name, manifest.level, manifest.machine) == ("tiny-qwen", "Q8_0", "x86_64")
    assert manifest.python == runtime.python_version()
    assert manifest.glibc == "2.31"
    assert list(manifest.cpu) == ["avx512", "avx2", "sse42"]
    assert manifest.serve == ("--ctx", "2048", "--slots", "2")  # as long as it was trained for
    assert manifest.memory > gguf.stat().st_size
    assert {"Apache-2.0", "MIT", "BSD-3-Clause"} <= set(manifest.licences)


def test_memory_grows_with_context_and_slots(gguf: Path) -> None:
    file = read_sane(gguf)
    assert needed_memory(file, 256, 1) < needed_memory(file, 512, 1) < needed_memory(file, 512, 4)


def test_the_lock_entry_names_the_packed_file(packed: Packed, tmp_path: Path) -> None:
    paths = {entry.path: entry for entry in packed.manifest.files}
    lock = paths["model/lock.toml"]
    (tmp_path / "lock.toml").write_bytes(packed.box.read_bytes()[lock.offset : lock.offset + lock.size])
    (output,) = read_lock(tmp_path / "lock.toml")["tiny-qwen"].outputs
    assert output.sha256 == paths["model/model.gguf"].sha256


def test_the_printed_command_gives_the_hash_of_the_installer(packed: Packed) -> None:
    shown = subprocess.run(packed.check_command, shell=True, cwd=packed.box.parent, capture_output=True, text=True)
    assert shown.stdout.split()[0] == packed.archive.sha256


def test_the_visitors_page_is_checked_before_anything_is_built(gguf: Path, key: Path, tmp_path: Path) -> None:
    config = tmp_path / "kiosk.toml"
    config.write_text('titel = "Museum"\n')
    with pytest.raises(EdgeError, match="titel"):
        pack(gguf, "tiny-qwen", tmp_path / "box.edge", key=key, models=tmp_path, config=config)
    assert not (tmp_path / "box.edge").exists()


@pytest.mark.parametrize(
    "config, asked",
    (
        ('questions = ["Where is the lift?"]', ["Where is the lift?", golden.PLAIN["en"]]),
        ('language = "zh"', [golden.PLAIN["zh"]]),
        ('questions = ["Lift?"]\n[golden]\nquestion = "How much is 2+2?"', ["How much is 2+2?"]),
    ),
)
def test_which_question_becomes_the_golden_one(
    config: str, asked: list[str], gguf: Path, key: Path, tmp_path: Path, stand_ins: list[str]
) -> None:
    (tmp_path / "kiosk.toml").write_text(config)
    pack(gguf, "tiny", tmp_path / "box.edge", key=key, models=tmp_path, config=tmp_path / "kiosk.toml")
    assert stand_ins == asked


def test_a_file_that_changed_since_its_conversion_is_refused(gguf: Path, key: Path, tmp_path: Path) -> None:
    copy = tmp_path / gguf.name
    copy.write_bytes(gguf.read_bytes())
    report = {"sha256": hashlib.sha256(copy.read_bytes()).hexdigest(), "bytes": copy.stat().st_size}
    store.report_path(copy).write_text(json.dumps(report))
    with copy.open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x55")
    with pytest.raises(EdgeError, match="is damaged"):
        pack(copy, "tiny-qwen", tmp_path / "box.edge", key=key, models=tmp_path)
    assert not (tmp_path / "box.edge").exists()


@pytest.mark.parametrize("ctx, out", ((100_000, "box.edge"), (256, "no/such/box.edge"), (256, ".")))
def test_what_cannot_be_is_refused_before_the_build(
    ctx: int, out: str, gguf: Path, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builds, "libraries", lambda on_progress: pytest.fail("too late"))
    with pytest.raises(EdgeError):
        pack(gguf, "tiny-qwen", tmp_path / out, key=key, models=tmp_path, ctx=ctx)


def test_a_failed_write_leaves_the_old_box(packed: Packed, gguf: Path, key: Path, tmp_path: Path, monkeypatch) -> None:
    before = packed.box.read_bytes()

    def full(source: object, target: object, size: int, on_bytes: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edge.kiosk.box.container.copy", full)
    with pytest.raises(EdgeError, match="No space left"):
        pack(gguf, "tiny-qwen", packed.box, key=key, models=tmp_path)
    assert packed.box.read_bytes() == before
    assert not [path for path in packed.box.parent.iterdir() if path.name.endswith(".partial")]


# --- the command


def run(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(cli, ["pack", *arguments])
    return done.exit_code, done.stdout, done.stderr


def test_the_command_makes_a_key_and_then_a_box(gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = run("--new-key")
    assert code == 0 and (tmp_path / "home" / "kiosk-key.pem").is_file()
    fingerprint = out.split()[-1]
    code, out, _ = run(str(gguf), "--json")
    assert code == 0
    shown = json.loads(out)
    assert shown["fingerprint"] == fingerprint
    assert shown["name"] == "tiny-qwen"
    assert (tmp_path / "tiny-qwen-Q8_0.edge").stat().st_size == shown["bytes"]
    code, out, _ = run(str(gguf), "-o", "other.edge")
    assert code == 0
    assert f"install --key {fingerprint}" in out and "tail -c" in out and "SSE4.2" in out
    assert run(str(gguf), "-q")[1].strip() == fingerprint


def test_options_of_the_service_follow_two_dashes(gguf: Path, tmp_path: Path) -> None:
    run("--new-key")
    box = str(tmp_path / "box.edge")
    code, out, _ = run(str(gguf), "-o", box, "--json", "--slots", "2", "--", "--queue", "3", "--without-key")
    assert code == 0
    assert json.loads(out)["serve"][2:] == ["--slots", "2", "--queue", "3", "--without-key"]


@pytest.mark.parametrize(
    ("option", "why"),
    [
        (["--queue", "many"], "not a valid integer"),
        (["--nonsense"], "No such option"),
        (["another"], "unexpected extra argument"),
        (["-c", "9"], "before the --"),
        (["--socket", "s"], "apply --listen"),
        (["--state-dir", "s"], "the box sets it"),
    ],
)
def test_options_that_are_not_for_the_service(option: list[str], why: str, gguf: Path, tmp_path: Path) -> None:
    code, _, said = run(str(gguf), "-o", str(tmp_path / "box.edge"), "--", *option)
    assert code == 2 and why in said


def test_a_key_may_be_put_elsewhere(gguf: Path, tmp_path: Path) -> None:
    code, out, _ = run("--new-key", str(tmp_path / "mine.pem"), "-q")
    assert code == 0
    assert keys.fingerprint(keys.public_bytes(keys.read_key(tmp_path / "mine.pem"))) == out.strip()
    code, out, _ = run(str(gguf), "--key", str(tmp_path / "mine.pem"), "-o", str(tmp_path / "box.edge"), "-q")
    assert (code, len(out.strip())) == (0, 64)


def test_without_a_key_the_command_says_how_to_make_one(gguf: Path, tmp_path: Path) -> None:
    code, _, said = run(str(gguf), "-o", str(tmp_path / "box.edge"))
    assert code == 1
    assert said.strip().endswith("make one: edge pack --new-key")


@pytest.mark.parametrize("arguments", ((), ("tiny-qwen", "--new-key=key.pem")))
def test_a_model_or_a_key_but_not_both(arguments: tuple[str, ...]) -> None:
    assert run(*arguments)[0] == 2
