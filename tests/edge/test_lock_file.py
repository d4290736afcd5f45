"""models.lock as a file: the shipped one, every way to find it, and what a damaged one does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.lock import LockedFile, LockedModel, LockError, Output, Source
from edge.lock_file import check_file_name, check_name, lock_text, read_lock, shipped_path, write_lock
from edge.names import plain

ROOT = Path(__file__).parents[2]
SHA = "0123456789abcdef" * 4
FULL = LockedModel(
    "a-1b",
    architecture="Qwen2ForCausalLM",
    licence='of "A" \\ B',
    context_length=4096,
    config={"tie_word_embeddings": True, "hidden_size": 64},
    sources=(Source("modelscope", "org/A-1B"), Source("huggingface", "org/A-1B", "abc")),
    files=(LockedFile("config.json", 0, SHA), LockedFile("extra/chat.jinja", 1 << 40, SHA)),
    outputs=(Output("Q4_K_M", "0.1.0", "x86_64", "0.3.36 AVX2", SHA), Output("Q8_0", "0.1.0", "arm64", "x", SHA)),
)


# --- the shipped one


def test_the_shipped_lock_is_written_in_the_one_way(tmp_path: Path) -> None:
    path = tmp_path / "models.lock"
    path.write_bytes((ROOT / "models.lock").read_bytes())
    write_lock(path, read_lock(path))
    assert path.read_bytes() == (ROOT / "models.lock").read_bytes()
    assert list(tmp_path.iterdir()) == [path]


def test_the_shipped_lock_is_in_the_source_tree() -> None:
    assert shipped_path() == ROOT / "models.lock"


def test_every_shipped_model_can_be_fetched_and_told_apart() -> None:
    lock = read_lock(shipped_path())
    assert len(lock) == 27
    assert len({plain(name) for name in lock}) == len(lock)
    repos = [source.place for model in lock.values() for source in model.sources]
    assert len(set(repos)) == len(repos)
    for model in lock.values():
        assert re.fullmatch(r"[0-9a-f]{40}", model.sources[0].revision or ""), model.name
        for source in model.sources:
            assert plain(source.repo.split("/")[1]) == plain(model.name), "the rule for names"


def test_shipped_sizes_fit_shipped_configs() -> None:
    """A copied row would plan a wrong model: the weights in BF16 must fill all but the headers of their shards."""
    checked = 0
    for model in read_lock(shipped_path()).values():
        weights = sum(file.size for file in model.files if file.name.endswith(".safetensors"))
        if not weights:
            continue
        get = model.config
        hidden, width = get["hidden_size"], get["intermediate_size"]
        queries, keys = (get[f"num_{kind}_heads"] * get["head_dim"] for kind in ("attention", "key_value"))
        extra = queries + 2 * keys if model.architecture == "Qwen2ForCausalLM" else 2 * get["head_dim"]
        layer = 2 * hidden * (queries + keys) + extra + 3 * hidden * width + 2 * hidden
        # Qwen3-0.6B ties its embeddings and ships the copy all the same.
        copies = 1 if get["tie_word_embeddings"] and model.name != "qwen3-0.6b" else 2
        params = get["num_hidden_layers"] * layer + (copies * get["vocab_size"] + 1) * hidden
        assert 0 < weights - 2 * params < 60_000, model.name
        checked += 1
    assert checked == 10


# --- the ways of installing; each shows where a fresh interpreter finds the lock


def found_by(site: Path, cwd: Path) -> Path:
    code = (
        # `make test` has the source tree itself on the path
        f"import site, sys; sys.path = [part for part in sys.path if part != {str(ROOT.resolve())!r}]\n"
        f"site.addsitedir({str(site)!r})\n"
        "from edge.lock_file import read_lock, shipped_path\n"
        "assert read_lock(shipped_path())\n"
        "print(shipped_path())"
    )
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run([sys.executable, "-c", code], cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return Path(result.stdout.strip())


def build(hook: str, source: Path, out: Path) -> Path:
    """What pip calls: the PEP 517 hook of pyproject.toml's backend, in ``source``."""
    code = f"from hatchling import build; print(build.{hook}({str(out)!r}))"
    result = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return out / result.stdout.split()[-1]


def unpack(wheel: Path, to: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(to)
    return to


def test_pip_install_puts_the_lock_into_the_package(tmp_path: Path) -> None:
    site = unpack(build("build_wheel", ROOT, tmp_path), tmp_path / "site")
    assert found_by(site, tmp_path) == site.resolve() / "edge" / "models.lock"
    assert (site / "edge" / "models.lock").read_bytes() == (ROOT / "models.lock").read_bytes()
    assert sorted(path.name for path in site.iterdir())[:2] == ["convert", "edge"]


def test_pip_install_e_finds_the_lock_of_the_source_tree(tmp_path: Path) -> None:
    site = unpack(build("build_editable", ROOT, tmp_path), tmp_path / "site")
    assert found_by(site, tmp_path) == ROOT.resolve() / "models.lock"


def test_a_source_archive_carries_the_lock(tmp_path: Path) -> None:
    with tarfile.open(build("build_sdist", ROOT, tmp_path)) as archive:
        archive.extractall(tmp_path)  # our own; Python 3.11.2 knows no filters
    (source,) = (path for path in tmp_path.iterdir() if path.is_dir())
    site = unpack(build("build_wheel", source, tmp_path), tmp_path / "site")
    assert found_by(site, tmp_path) == site.resolve() / "edge" / "models.lock"


# --- reading and writing


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "models.lock"
    lock = {"b-2b": LockedModel("b-2b"), "a-1b": FULL}
    write_lock(path, lock)
    assert read_lock(path) == lock
    assert path.read_bytes() == lock_text(lock).encode()


def test_the_order_of_files_outputs_and_models_does_not_matter() -> None:
    turned = LockedModel(**{**vars(FULL), "files": FULL.files[::-1], "outputs": FULL.outputs[::-1]})
    assert lock_text({"b": LockedModel("b"), "a-1b": turned}) == lock_text({"a-1b": FULL, "b": LockedModel("b")})


def test_what_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    """A hub may list a file called ../x: written down, it would make the whole lock unreadable."""
    path = tmp_path / "models.lock"
    write_lock(path, {"a-1b": FULL})
    before = path.read_bytes()
    for file in (LockedFile("../x.json", 1, SHA), LockedFile('a"\n.json', 1, SHA), LockedFile("a.json", -1, SHA)):
        with pytest.raises(LockError, match="does not belong in a lock"):
            write_lock(path, {"a-1b": LockedModel("a-1b", files=(file,))})
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "models.lock"
    write_lock(path, {"a-1b": FULL})

    def full_disk(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(LockError, match=r"cannot write .*: No space left"):
        write_lock(path, {})
    assert read_lock(path) == {"a-1b": FULL} and list(tmp_path.iterdir()) == [path]


def test_an_absent_lock(tmp_path: Path) -> None:
    assert read_lock(tmp_path / "models.lock", missing_ok=True) == {}
    with pytest.raises(LockError, match="there is no lock at"):
        read_lock(tmp_path / "models.lock")
    with pytest.raises(LockError, match="cannot read"):
        read_lock(tmp_path)


ROW = f'name = "a.json", size = 1, sha256 = "{SHA}"'
DAMAGED = {
    "half a line": ("version = ", "damaged"),
    "another version": ("version = 2", "version is '2'"),
    "no version": ("", "version is 'None'"),
    "not text": (b"\xff\xfe", "damaged"),
    "deep": ("version = " + "[" * 100_000, "damaged"),
    "models are no table": ("version = 1\nmodels = 3", "only a version and models"),
    "a stranger's table": ("version = 1\n[other]", "only a version and models"),
    "a model is no table": ("version = 1\nmodels.a = 3", "a: not a table"),
    "a misspelled key": ("version = 1\nmodels.a.license = 'mit'", "'license' is not known here"),
    "a misspelled config key": ("version = 1\nmodels.a.config.layers = 3", "'layers' is not known here"),
    "a number as text": ("version = 1\nmodels.a.config.head_dim = '64'", "head_dim: '64' is not a count"),
    "true as a number": ("version = 1\nmodels.a.context_length = true", "'True' is not a count"),
    "a huge number": ("version = 1\nmodels.a.context_length = 9" + "0" * 30, "is not a count"),
    "a number as a flag": ("version = 1\nmodels.a.config.tie_word_embeddings = 1", "'1' is not true or false"),
    "a hub nobody knows": ("version = 1\nmodels.a.sources = [{hub = 'x', repo = 'a/b'}]", "hub: 'x' is none of"),
    "a repository upwards": (
        "version = 1\nmodels.a.sources = [{hub = 'modelscope', repo = 'a/..'}]",
        "not a repository",
    ),
    "a short hash": (f'version = 1\nmodels.a.files = [{{{ROW[:-2]}"}}]', "is not a SHA-256"),
    "no hash": (
        "version = 1\nmodels.a.files = [{name = 'a.json', size = 1}]",
        "something is missing beside name, size",
    ),
    "a file upwards": (
        f"version = 1\nmodels.a.files = [{{{ROW.replace('a.json', '../a.json')}}}]",
        "cannot be a file's",
    ),
    "a file twice": (
        f"version = 1\nmodels.a.files = [{{{ROW}}}, {{{ROW.replace('a.json', 'A.json')}}}]",
        "'a.json' is there twice",
    ),
    "a level nobody knows": ("version = 1\nmodels.a.outputs = [{level = 'Q9'}]", "level: 'Q9' is none of"),
    "a model's name upwards": ("version = 1\n[models.'../a']", "cannot be a model's name"),
}


@pytest.mark.parametrize(("content", "says"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_lock_says_what_and_where_in_one_line(tmp_path: Path, content: str | bytes, says: str) -> None:
    path = tmp_path / "models.lock"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(LockError, match=re.escape(says)) as caught:
        read_lock(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_a_lock_that_is_no_lock_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "models.lock"
    with path.open("wb") as handle:
        handle.truncate(1 << 30)
    with pytest.raises(LockError, match="too big for a lock"):
        read_lock(path)


@given(st.data())
def test_any_damage_is_a_lock_error_or_another_lock(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "models.lock"
    content = bytearray(lock_text({"a-1b": FULL}).encode())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        lock = read_lock(path)
    except LockError:
        return
    write_lock(path, lock)
    assert read_lock(path) == lock


# --- names that become paths


@pytest.mark.parametrize(
    "name", ["config.json", "model-00001-of-00004.safetensors", "qwen.tiktoken", "additional_chat_templates/a.jinja"]
)
def test_ordinary_file_names(name: str) -> None:
    assert check_file_name(name) == name


ELSEWHERE = (
    *("/etc/a.json", "../a.json", "a/../b.json", "./a.json", "a//b.json", "a.json/", "~/a.json", ".json", ".a.json"),
    *("a\\b.json", "C:a.json", "C:/a.json", "a:b.json", "a?.json", "a.json.", "nul.json", "aux/a.json", "COM1.json"),
    *(
        "lpt9.x.json",
        "-o.json",
        "a..json",
        "a b.json",
        "a\n.json",
        "a.json\n",
        "a\0.json",
        "ａ.json",
        "a" * 300 + ".json",
    ),
)
CODE = (
    "model.py",
    "a.json.py",
    "model.pkl",
    "pytorch_model.bin",
    "model.pt",
    "model.ckpt",
    "a.exe",
    "a",
    "a/",
    "",
    None,
    3,
)


@pytest.mark.parametrize("name", [*ELSEWHERE, *CODE])
def test_file_names_that_lead_elsewhere_or_run_are_refused(name: object) -> None:
    """A lock or a hub's listing could otherwise write outside the folder, or fetch code."""
    with pytest.raises(ValueError):
        check_file_name(name)


@pytest.mark.parametrize("name", ["", "..", "A", "_a", "a/b", "a\\b", "con", "nul.1", "a.", "a" * 101, None])
def test_model_names_that_cannot_be_folders_are_refused(name: object) -> None:
    with pytest.raises(ValueError):
        check_name(name)
