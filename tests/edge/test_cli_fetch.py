"""pull, lock, verify and convert by a model's name, as a person types them, against doubles of the hubs."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from edge.busy import only_one
from edge.cli.fetching import Rate
from edge.cli.main import cli
from edge.hub.backoff import RateLimit
from edge.lock import LockedFile, LockedModel, Source
from edge.lock_file import read_lock, write_lock
from edge.user_lock import lock_path
from tests.conftest import LeftLoopback
from tests.edge.tiny_hub import MODEL, NAME, NEEDED, REPO, SMALL, TINY, WEIGHTS, asked, content_of, sha256, tiny
from tests.hub.content import Repository, repository, repository_of
from tests.hub.huggingface import HuggingFaceDouble
from tests.hub.modelscope import ModelScopeDouble

OTHER = bytes(len(NEEDED[WEIGHTS]))
TOTAL = sum(map(len, NEEDED.values()))
Serve = Callable[..., HuggingFaceDouble]


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The models folder, not made yet; the shipped lock has one model, whose hashes are not known."""
    write_lock(tmp_path / "shipped.lock", {NAME: MODEL})
    monkeypatch.setenv("EDGE_LOCK", str(tmp_path / "shipped.lock"))
    monkeypatch.setenv("EDGE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("edge.hub.huggingface.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    for hub in ("HF_ENDPOINT", "MODELSCOPE_DOMAIN"):
        monkeypatch.setenv(hub, "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return tmp_path / "home" / "models"


@pytest.fixture
def serve(models: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Start a double of Hugging Face with a repository; it takes the place of an earlier one."""
    started: list[HuggingFaceDouble] = []

    def start(*repos: Repository) -> HuggingFaceDouble:
        hub = HuggingFaceDouble(repos)
        started.append(hub.__enter__())
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        return hub

    yield start
    for hub in started:
        hub.__exit__(None)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def done(*arguments: str | Path) -> Result:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


def error_of(result: Result) -> str:
    assert result.exit_code == 1, result.output
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "Traceback" not in result.output
    return errors[0]


def checkpoint(models: Path, name: str = NAME) -> Path:
    return models / name / "checkpoint"


# --- edge pull


def test_pull_tells_what_was_done_and_does_it_once(models: Path, serve: Serve) -> None:
    hub = serve(tiny())
    first = json.loads(done("pull", NAME, "--json").stdout)
    assert first == {
        "model": NAME,
        "folder": str(checkpoint(models)),
        "files": sorted(NEEDED, key=lambda name: (name == WEIGHTS, name != "config.json", name)),
        "fetched_bytes": TOTAL,
        "licence": "apache-2.0",
    }
    assert content_of(checkpoint(models)) == NEEDED
    before = len(hub.requests)
    again = done("pull", NAME)
    assert "5 files, nothing to fetch, licence apache-2.0" in again.stdout and len(hub.requests) == before


def test_pull_keeps_the_hashes_and_refuses_others_later(models: Path, serve: Serve) -> None:
    serve(tiny())
    done("pull", "Tiny:1B", "-q")
    kept = {file.name: file.sha256 for file in read_lock(lock_path(models))[NAME].files}
    assert kept == {name: sha256(data) for name, data in NEEDED.items()}
    serve(tiny({WEIGHTS: OTHER}))
    os.utime(checkpoint(models) / WEIGHTS)  # so that it looks again
    error = error_of(run("pull", NAME))
    assert kept[WEIGHTS] in error and sha256(OTHER) in error
    assert content_of(checkpoint(models)) == NEEDED


def test_a_wanted_change_is_fetched_after_the_lock_forgot_the_model(models: Path, serve: Serve) -> None:
    """The bug: the receipt alone said that all was there, so what the error advises had no effect."""
    serve(tiny())
    done("pull", NAME)
    same_size = SMALL["tokenizer_config.json"].replace(b"false", b"true ")
    changed = {WEIGHTS: OTHER, "generation_config.json": b"{}", "tokenizer_config.json": same_size}
    serve(tiny(changed))
    lock_path(models).unlink()
    done("pull", NAME)
    assert content_of(checkpoint(models)) == {**NEEDED, **changed}


def test_a_lost_lock_is_written_again_without_a_download(models: Path, serve: Serve) -> None:
    serve(tiny())
    done("pull", NAME)
    before = lock_path(models).read_bytes()
    lock_path(models).unlink()
    assert json.loads(done("pull", NAME, "--json").stdout)["fetched_bytes"] == 0
    assert lock_path(models).read_bytes() == before


def test_pull_into_another_folder(models: Path, serve: Serve, tmp_path: Path) -> None:
    hub = serve(tiny())
    done("pull", NAME, "--local-dir", tmp_path / "here")
    carried = content_of(tmp_path / "here")
    assert read_lock(tmp_path / "here" / "models.lock")[NAME].complete and carried.pop("models.lock")
    assert carried == NEEDED and not checkpoint(models).exists()
    assert set(asked(hub)) == set(NEEDED)


def test_pull_some_files(models: Path, serve: Serve) -> None:
    hub = serve(tiny())
    done("pull", NAME, "tokenizer*", "config.json")
    assert set(asked(hub)) == {"tokenizer.json", "tokenizer_config.json", "config.json"}
    assert "never fetched" in error_of(run("pull", NAME, "modeling_tiny.py"))
    done("pull", NAME)
    assert content_of(checkpoint(models)) == NEEDED, "some files are not taken for all"
    done("pull", NAME, "merges.txt")
    assert (checkpoint(models) / "merges.txt").is_file(), "and more than all can be had"


def test_pull_takes_what_the_hubs_own_program_fetched(models: Path, serve: Serve, tmp_path: Path) -> None:
    snapshot = tmp_path / "cache" / f"models--{REPO.replace('/', '--')}" / "snapshots" / ("c" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / WEIGHTS).write_bytes(NEEDED[WEIGHTS])
    hub = serve(tiny())
    done("pull", NAME)
    assert set(asked(hub)) == set(SMALL) and content_of(checkpoint(models)) == NEEDED
    done("pull", NAME, "--local-dir", tmp_path / "other", "--source", "huggingface")
    assert WEIGHTS in asked(hub), "a source that was chosen is the one that serves"


def test_pull_from_modelscope(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ModelScopeDouble([tiny()]) as hub:
        monkeypatch.setenv("MODELSCOPE_DOMAIN", hub.endpoint)
        done("pull", NAME, "--source", "modelscope")
    assert content_of(checkpoint(models)) == NEEDED


def test_pull_goes_to_the_next_hub_by_itself(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ModelScopeDouble([tiny()]) as hub:
        monkeypatch.setenv("MODELSCOPE_DOMAIN", hub.endpoint)
        done("pull", NAME)
    assert content_of(checkpoint(models)) == NEEDED


def test_pull_takes_a_vanished_revision_from_the_branch(models: Path, serve: Serve, tmp_path: Path) -> None:
    gone = replace(MODEL.sources[0], revision="f" * 40)
    weights = LockedFile(WEIGHTS, len(NEEDED[WEIGHTS]), sha256(NEEDED[WEIGHTS]))
    write_lock(tmp_path / "shipped.lock", {NAME: replace(MODEL, sources=(gone,), files=(weights,))})
    serve(tiny({WEIGHTS: OTHER}))
    assert sha256(OTHER) in error_of(run("pull", NAME))
    serve(tiny())
    done("pull", NAME)
    assert content_of(checkpoint(models)) == NEEDED


def test_an_unknown_name_suggests_the_nearest(models: Path) -> None:
    assert f"did you mean {NAME}?" in error_of(run("pull", "tiny-1c"))


def test_a_repository_that_no_lock_knows_gets_an_entry(models: Path, serve: Serve) -> None:
    repo = serve(repository("Some/Model", NEEDED)).repositories["Some/Model"]
    assert json.loads(done("pull", "Some/Model", "--json").stdout)["model"] == "some--model"
    entry = read_lock(lock_path(models))["some--model"]
    assert (entry.sources[0].repo, entry.sources[0].revision) == ("Some/Model", repo.head)
    assert len(entry.files) == len(NEEDED) and content_of(checkpoint(models, "some--model")) == NEEDED
    assert "nothing to fetch" in done("pull", "some--model").stdout


def test_a_repository_of_modelscope_that_no_lock_knows(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ModelScopeDouble([repository("Some/Model", NEEDED)]) as hub:
        monkeypatch.setenv("MODELSCOPE_DOMAIN", hub.endpoint)
        done("pull", "Some/Model", "--source", "modelscope")
    assert [source.hub for source in read_lock(lock_path(models))["some--model"].sources] == ["modelscope"]


@pytest.mark.parametrize(
    ("text", "rate"), [("2M", 2 << 20), ("500k", 500 << 10), ("1.5g", 1.5 * (1 << 30)), ("64", 64), ("10K", 10 << 10)]
)
def test_a_rate(text: str, rate: float) -> None:
    assert Rate().convert(text, None, None) == rate


@pytest.mark.parametrize("text", ["0", "fast", "-5k", "2MB", "2 M", "1e9", ""])
def test_no_rate(text: str, models: Path) -> None:
    result = run("pull", NAME, "--limit-rate", text)
    assert result.exit_code == 2 and "is not a rate such as 500k or 2M" in result.stderr


def test_the_rate_reaches_the_download(models: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(RateLimit.__init__, "__defaults__", (lambda: 0.0, slept.append))
    serve(tiny())
    done("pull", NAME, "--limit-rate", "1k")
    assert max(slept) >= len(NEEDED["tokenizer.json"]) / 1024


def test_a_second_process_waits_and_says_so(models: Path, serve: Serve) -> None:
    serve(tiny())
    with only_one(models / ".locks" / f"{NAME}.lock", NAME, print):
        second = subprocess.Popen(
            [sys.executable, "-m", "edge", "pull", NAME], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert second.stderr is not None
        assert second.stderr.readline() == f"another process works on {NAME}; waiting for it to end\n"
        assert not checkpoint(models).exists()
    output, errors = second.communicate(timeout=30)
    assert second.returncode == 0, errors
    assert "5 files" in output and content_of(checkpoint(models)) == NEEDED


# --- without a network


@pytest.fixture(params=["--offline", "HF_HUB_OFFLINE"])
def offline(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Result]]:
    """Run a command without a network: whoever only tries to use one fails the test, caught or not."""
    tried: list[Any] = []

    def refuse(*arguments: Any, **_: Any) -> Any:
        tried.append(arguments)
        raise LeftLoopback(f"offline, and yet: {arguments}")

    def offline_run(*arguments: str | Path) -> Result:
        with monkeypatch.context() as patch:
            for name in ("connect", "connect_ex", "sendto"):
                patch.setattr(socket.socket, name, refuse)
            patch.setattr(socket, "getaddrinfo", refuse)
            if request.param == "HF_HUB_OFFLINE":
                patch.setenv("HF_HUB_OFFLINE", "1")
                return run(*arguments)
            return run(*arguments, "--offline")

    yield offline_run
    assert tried == []


def test_offline_with_everything_there(models: Path, serve: Serve, offline: Callable[..., Result]) -> None:
    hub = serve(tiny())
    done("pull", NAME)
    before = len(hub.requests)
    assert "nothing to fetch" in offline("pull", NAME).stdout
    lock_path(models).unlink()
    assert "nothing to fetch" in offline("pull", NAME).stdout, "nor does it need the lock"
    assert len(hub.requests) == before


def test_offline_from_a_folder(models: Path, serve: Serve, offline: Callable[..., Result], tmp_path: Path) -> None:
    hub = serve(tiny())
    for name, data in NEEDED.items():
        (tmp_path / "stick").mkdir(exist_ok=True)
        (tmp_path / "stick" / name).write_bytes(data)
    result = offline("pull", NAME, "--source", tmp_path / "stick", "--source", "huggingface")
    assert result.exit_code == 0, result.output
    assert content_of(checkpoint(models)) == NEEDED and hub.requests == []


@pytest.mark.parametrize("command", ["pull", "convert", "lock"])
def test_offline_with_nothing_there(
    command: str, models: Path, serve: Serve, offline: Callable[..., Result], request: pytest.FixtureRequest
) -> None:
    hub = serve(tiny())
    error = error_of(offline(command, NAME))
    assert request.node.callspec.params["offline"] in error and "forbids the network" in error
    assert "--source" in error and hub.requests == []


def test_offline_with_a_damaged_file(models: Path, serve: Serve, offline: Callable[..., Result]) -> None:
    hub = serve(tiny())
    done("pull", NAME)
    (checkpoint(models) / WEIGHTS).unlink()
    before = len(hub.requests)
    assert "is not whole" in error_of(offline("pull", NAME)) and len(hub.requests) == before
    assert "forbids the network" in error_of(offline("verify", NAME, "--repair"))


# --- edge lock


def test_lock_prints_an_entry_that_a_lock_can_hold(models: Path, serve: Serve, tmp_path: Path) -> None:
    hub = serve(tiny())
    printed = done("lock", NAME).stdout
    (tmp_path / "printed.lock").write_text(printed)
    assert read_lock(tmp_path / "printed.lock") == read_lock(lock_path(models))
    entry = read_lock(lock_path(models))[NAME]
    assert {file.name: file.sha256 for file in entry.files} == {name: sha256(data) for name, data in NEEDED.items()}
    assert entry.sources[0].revision == hub.repositories[REPO].head and entry.architecture == "Qwen2ForCausalLM"
    assert set(asked(hub)) == set(SMALL)


def test_what_was_locked_is_what_is_fetched(models: Path, serve: Serve) -> None:
    serve(tiny())
    assert json.loads(done("lock", NAME, "--json").stdout)["context_length"] == 2048
    serve(tiny({WEIGHTS: OTHER}))
    assert sha256(OTHER) in error_of(run("pull", NAME))
    serve(tiny())
    done("pull", NAME)
    assert content_of(checkpoint(models)) == NEEDED


# --- edge verify


@pytest.fixture
def pulled(models: Path, serve: Serve) -> HuggingFaceDouble:
    """A hub from which the model was fetched; its record begins again here."""
    hub = serve(tiny())
    done("pull", NAME)
    hub.requests.clear()
    return hub


def damage(path: Path) -> None:
    """Another content; size and time tell nothing."""
    stat = path.stat()
    path.write_bytes(bytes(stat.st_size))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_verify_names_missing_and_damaged_files(models: Path, pulled: HuggingFaceDouble) -> None:
    assert done("verify", NAME).stdout.count(": ok\n") == 5
    damage(checkpoint(models) / WEIGHTS)
    (checkpoint(models) / "tokenizer.json").unlink()
    result = run("verify", NAME, "-q")
    assert set(result.stdout.splitlines()) == {
        f"{WEIGHTS}: damaged: SHA-256 is {sha256(OTHER)}, not {sha256(NEEDED[WEIGHTS])}",
        "tokenizer.json: missing",
    }
    assert f"2 of 5 files of {NAME} are missing or damaged; the same command with --repair fetches them" in error_of(
        result
    )
    found = {file["name"]: file["state"] for file in json.loads(run("verify", NAME, "--json").stdout)["files"]}
    assert found == {**dict.fromkeys(NEEDED, "ok"), WEIGHTS: "damaged", "tokenizer.json": "missing"}
    assert pulled.requests == []


def test_repair_fetches_the_bad_ones_alone(models: Path, pulled: HuggingFaceDouble) -> None:
    damage(checkpoint(models) / WEIGHTS)
    (checkpoint(models) / "tokenizer.json").unlink()
    assert done("verify", NAME, "--repair").stdout.count(": ok\n") == 5
    assert set(asked(pulled)) == {WEIGHTS, "tokenizer.json"}
    assert content_of(checkpoint(models)) == NEEDED


def test_repair_asks_nobody_when_all_is_well(models: Path, pulled: HuggingFaceDouble) -> None:
    done("verify", NAME, "--repair")
    assert pulled.requests == []


def test_verify_another_folder(models: Path, pulled: HuggingFaceDouble, tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoint(models), tmp_path / "copy")
    (folder / f"{NAME}-Q8_0.gguf").write_bytes(b"who knows")
    assert f"{NAME}-Q8_0.gguf: not locked" in done("verify", NAME, "--folder", folder).stdout
    damage(folder / WEIGHTS)
    assert "1 of 6 files" in error_of(run("verify", NAME, "--folder", folder))
    done("verify", NAME)
    done("verify", NAME, "--folder", folder, "--repair")
    assert asked(pulled) == [WEIGHTS] and (folder / WEIGHTS).read_bytes() == NEEDED[WEIGHTS]


def test_verify_with_nothing_known_or_nothing_there(models: Path, serve: Serve, tmp_path: Path) -> None:
    assert f"no hash of {NAME} is known; run: edge lock {NAME}" in error_of(run("verify", NAME))
    assert "no hash of some--model is known" in error_of(run("verify", "Some/Model"))
    weights = LockedFile(WEIGHTS, len(NEEDED[WEIGHTS]), sha256(NEEDED[WEIGHTS]))
    write_lock(tmp_path / "shipped.lock", {NAME: replace(MODEL, files=(weights,))})
    assert f"run: edge pull {NAME}" in error_of(run("verify", NAME))


# --- edge convert


@pytest.fixture
def convertible(serve: Serve) -> HuggingFaceDouble:
    return serve(repository_of(REPO, TINY))


def output_of(models: Path) -> LockedModel:
    return read_lock(lock_path(models))[NAME]


def test_convert_by_name_fetches_converts_and_keeps_the_hash(models: Path, convertible: HuggingFaceDouble) -> None:
    made = json.loads(done("convert", NAME, "-l", "Q8_0,Q4_0", "--no-check", "--json").stdout)
    by_level = {output["level"]: output for output in made["outputs"]}
    for level, output in by_level.items():
        assert Path(output["path"]) == models / NAME / f"{NAME}-{level}.gguf"
        assert sha256(Path(output["path"]).read_bytes()) == output["sha256"]
    kept = {output.level: output.sha256 for output in output_of(models).outputs}
    assert kept == {level: output["sha256"] for level, output in by_level.items()}
    before = len(convertible.requests)
    done("convert", NAME, "-l", "Q8_0", "--no-check", "-q")
    assert len(convertible.requests) == before, "all is there"
    assert done("verify", NAME).stdout.count(": ok\n") == len(list(TINY.iterdir())) + 2
    with (models / NAME / f"{NAME}-Q4_0.gguf").open("r+b") as file:
        file.truncate(1000)
    assert f"{NAME}-Q4_0.gguf: damaged" in run("verify", NAME).stdout


def test_convert_and_run_with_the_gate(models: Path, convertible: HuggingFaceDouble) -> None:
    assert "gate: passed" in done("convert", "Tiny:1B").stdout
    answer = done("run", NAME, "你好", "--temp", "0")
    assert answer.stdout.strip()


def test_a_dry_run_fetches_nothing(models: Path, convertible: HuggingFaceDouble) -> None:
    error_of(run("convert", NAME, "--dry-run"))
    assert convertible.requests == [] and not checkpoint(models).exists()
    done("pull", NAME)
    before = len(convertible.requests)
    planned = json.loads(done("convert", NAME, "--dry-run", "--json").stdout)
    assert planned["architecture"] == "qwen2" and len(convertible.requests) == before
    assert list(models.rglob("*.gguf")) == []


def rebuilt(*arguments: str) -> tuple[Result, list[dict[str, str]]]:
    result = run("verify", NAME, "--rebuild", "--json", *arguments)
    return result, json.loads(result.stdout)["rebuilt"]


def test_rebuild(models: Path, convertible: HuggingFaceDouble) -> None:
    """The same bytes again; then a lock with another hash; then one with a recipe of another machine."""
    done("convert", NAME, "-l", "Q8_0", "--no-check", "-q")
    result, rows = rebuilt()
    assert result.exit_code == 0 and rows[0]["sha256"] == rows[0]["locked"]
    assert "Q8_0: the same bytes again" in done("verify", NAME, "--rebuild").stdout

    entry = output_of(models)
    write_lock(lock_path(models), {NAME: replace(entry, outputs=(replace(entry.outputs[0], sha256="b" * 64),))})
    result, rows = rebuilt()
    assert "1 of 1 outputs" in error_of(result) and rows[0]["locked"] == "b" * 64

    write_lock(lock_path(models), {NAME: replace(entry, outputs=(replace(entry.outputs[0], cpu="sparc"),))})
    result, rows = rebuilt()
    assert result.exit_code == 0 and rows[0]["locked"] is None
    assert "Q8_0: nothing to compare with" in done("verify", NAME, "--rebuild").stdout
    assert [path.name for path in (models / NAME).rglob(".rebuild-*")] == []


def test_rebuild_of_what_no_lock_knows(models: Path, tmp_path: Path) -> None:
    """The bug: a KeyError. The folder had a file to look at, but the repository no entry."""
    (tmp_path / "m-Q8_0.gguf").write_bytes(b"who knows")
    error = error_of(run("verify", "Some/Model", "--folder", tmp_path, "--rebuild"))
    assert "no output of some--model" in error


def test_rebuild_without_any_output(models: Path, pulled: HuggingFaceDouble) -> None:
    assert f"no output of {NAME}; run: edge convert {NAME}" in error_of(run("verify", NAME, "--rebuild"))


# --- a folder that is carried


def test_a_carried_folder_is_checked_by_the_lock_inside_it(models: Path, serve: Serve, tmp_path: Path) -> None:
    """The shipped lock knows some of a model's files only: a stick's damage would have been taken for the truth."""
    serve(tiny())
    done("pull", NAME, "--local-dir", tmp_path / "stick")
    lock_path(models).unlink()
    weights = tmp_path / "stick" / WEIGHTS
    sound = weights.read_bytes()
    weights.write_bytes(sound[:-1] + b"?")
    error = error_of(run("pull", NAME, "--offline", "--source", str(tmp_path / "stick")))
    assert sha256(sound) in error and sha256(weights.read_bytes()) in error
    assert "damaged" in run("verify", "--folder", str(tmp_path / "stick"), NAME).stdout
    weights.write_bytes(sound)
    done("verify", "--folder", tmp_path / "stick", NAME)
    done("pull", NAME, "--offline", "--source", tmp_path / "stick")
    assert content_of(checkpoint(models)) == NEEDED


def test_one_folder_for_two_models(models: Path, serve: Serve, tmp_path: Path) -> None:
    """The bug: the receipt did not say whose it was, so the second model was "there" with the first one's files."""
    serve(tiny(), repository("Other/Model", {**NEEDED, "tokenizer.json": b'{"other": 1}'}))
    done("pull", NAME, "--local-dir", tmp_path / "here")
    done("pull", "Other/Model", "--local-dir", tmp_path / "here")
    assert (tmp_path / "here" / "tokenizer.json").read_bytes() == b'{"other": 1}'


odd_names = pytest.mark.skipif(os.name == "nt", reason="Windows has no files of such names")


def put(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def locked(models: Path, serve: Serve) -> LockedModel:
    """All is known of the model, nothing of it is there, and nobody serves it any more."""
    serve(tiny())
    done("lock", NAME, "-q")
    shutil.rmtree(checkpoint(models))
    serve()
    return read_lock(lock_path(models))[NAME]


def test_hashes_come_back_into_a_lock_that_forgot_the_model(models: Path, serve: Serve) -> None:
    """The bug: the receipt said that all was there, so the lock stayed without hashes for ever."""
    serve(tiny())
    done("pull", NAME)
    before = read_lock(lock_path(models))
    write_lock(lock_path(models), {"other": LockedModel("other")})
    done("pull", NAME)
    assert read_lock(lock_path(models)) == {**before, "other": LockedModel("other")}


def test_files_laid_in_by_hand_are_adopted_offline(
    models: Path, locked: LockedModel, offline: Callable[..., Result]
) -> None:
    """The bug: without a receipt they did not count, although the lock has all their hashes."""
    put(checkpoint(models), NEEDED)
    result = json.loads(offline("pull", NAME, "--json").stdout)
    assert result["fetched_bytes"] == 0 and sorted(result["files"]) == sorted(NEEDED)


@odd_names
def test_a_folder_of_renamed_files_and_junk(models: Path, locked: LockedModel, tmp_path: Path) -> None:
    """The bug: the folder's listing was asked for a config.json, and broke at names that may not be fetched."""
    stick = put(tmp_path / "stick", {name.replace(".", " (1).", 1): data for name, data in NEEDED.items()})
    put(stick, {"nul.txt": b"", "a\tb": b"?", "~$x.json ": b"?", "中文.json": b"{}"})
    done("pull", NAME, "--source", stick, "--offline")
    assert content_of(checkpoint(models)) == NEEDED


@odd_names
def test_junk_names_beside_a_models_own(models: Path, tmp_path: Path) -> None:
    """The bug: one such name made the whole folder useless."""
    stick = put(tmp_path / "stick", {**NEEDED, "con.tiktoken": b"", "model\t2.safetensors": b"?"})
    done("pull", NAME, "--source", stick)
    assert content_of(checkpoint(models)) == NEEDED


def test_a_repository_that_is_known_from_the_other_hub(
    models: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bug: "name it as org/repo", said to who had done so."""
    serve(repository("Some/Model", NEEDED))
    done("lock", "Some/Model", "-q")
    with ModelScopeDouble([repository("Some/Model", NEEDED)]) as hub:
        monkeypatch.setenv("MODELSCOPE_DOMAIN", hub.endpoint)
        done("pull", "Some/Model", "--source", "modelscope")
        assert WEIGHTS in asked(hub)
    assert {source.hub for source in read_lock(lock_path(models))["some--model"].sources} == {
        "huggingface",
        "modelscope",
    }


def test_a_folder_cannot_be_locked(models: Path, tmp_path: Path) -> None:
    """The bug: an entry without the weights' hashes, and success."""
    stick = put(tmp_path / "stick", NEEDED)
    error = error_of(run("lock", NAME, "--source", stick))
    assert "only a hub tells the hashes" in error and "edge pull --source FOLDER" in error
    assert not lock_path(models).exists()


def test_an_offline_repair_takes_nothing_away(models: Path, pulled: HuggingFaceDouble) -> None:
    """The bug: the damaged file was deleted before it was known that nobody serves another."""
    damage(checkpoint(models) / WEIGHTS)
    assert "forbids the network" in error_of(run("verify", NAME, "--repair", "--offline"))
    assert content_of(checkpoint(models)) == {**NEEDED, WEIGHTS: OTHER}


@pytest.mark.parametrize(
    ("what", "left"), [(NAME, set()), (f"{NAME}:checkpoint", {"gguf"}), (f"{NAME}:Q8_0", {"checkpoint"})]
)
def test_rm(what: str, left: set[str], models: Path, pulled: HuggingFaceDouble) -> None:
    """The bugs: NAME left the checkpoint, the largest part; NAME:checkpoint took the GGUFs too."""
    gguf = put(models / NAME, {f"{NAME}-Q8_0.gguf": b"GGUF"}) / f"{NAME}-Q8_0.gguf"
    done("rm", what)
    there = {"gguf": gguf.exists(), "checkpoint": checkpoint(models).exists()}
    assert {name for name, is_there in there.items() if is_there} == left
    assert (models / NAME).exists() == bool(left)


def test_rm_waits_for_who_fetches(models: Path, pulled: HuggingFaceDouble) -> None:
    """The bug: the files went away below a running pull."""
    with only_one(models / ".locks" / f"{NAME}.lock", NAME, print):
        second = subprocess.Popen([sys.executable, "-m", "edge", "rm", NAME], stderr=subprocess.PIPE, text=True)
        assert second.stderr is not None
        assert second.stderr.readline() == f"another process works on {NAME}; waiting for it to end\n"
        assert content_of(checkpoint(models)) == NEEDED
    _, errors = second.communicate(timeout=30)
    assert second.returncode == 0, errors
    assert not checkpoint(models).exists()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS], ids=errno.errorcode.get)
def test_verify_where_nobody_can_write(
    number: int, models: Path, pulled: HuggingFaceDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bug: a models folder on a read-only disk, or of another user, could not be checked."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("edge.busy.FileLock.acquire", refuse)
    assert done("verify", NAME).stdout.count(": ok\n") == len(NEEDED)


def test_a_receipt_of_no_file_is_not_believed(models: Path, serve: Serve) -> None:
    """The bug: "complete", and nothing to fetch."""
    serve(tiny())
    for text in ('{"complete": true, "files": {}}', '{"model": "tiny-1b", "complete": true, "files": {}}'):
        shutil.rmtree(checkpoint(models), ignore_errors=True)
        put(checkpoint(models), {".edge-pull.json": text.encode()})
        done("pull", NAME)
        assert content_of(checkpoint(models)) == NEEDED


def test_another_models_receipt(models: Path, serve: Serve, tmp_path: Path) -> None:
    """The bug: in one --local-dir the second model was taken for the first, and its hashes for the first one's."""
    other = {**NEEDED, WEIGHTS: OTHER}
    serve(tiny(), repository("Other/Model", other))
    for name, wanted in ((NAME, NEEDED), ("Other/Model", other), (NAME, NEEDED)):
        done("pull", name, "--local-dir", tmp_path / "here")
        assert (tmp_path / "here" / WEIGHTS).read_bytes() == wanted[WEIGHTS]
    lock_path(models).unlink()
    assert "is not whole" in error_of(run("pull", "Other/Model", "--local-dir", tmp_path / "here", "--offline"))


# --- what failures say


@pytest.mark.parametrize("token", ["hf_密码", "hf_é"])
def test_a_token_that_cannot_be_one(token: str, models: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bug: a traceback of the HTTP library, or "cannot be reached"."""
    hub = serve(tiny())
    monkeypatch.setenv("HF_TOKEN", token)
    assert "HF_TOKEN holds characters that no token has" in error_of(run("pull", NAME, "--source", "huggingface"))
    assert hub.requests == []


def test_a_wrong_token_is_named(models: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bug: "there is no such model"."""
    serve(tiny())
    monkeypatch.setenv("HF_TOKEN", "hf_of_yesterday")
    error = error_of(run("pull", NAME, "--source", "huggingface"))
    assert "401" in error and "HF_TOKEN is not accepted" in error


def test_a_failure_is_told_once(models: Path, serve: Serve, tmp_path: Path) -> None:
    """The bug: a locked revision and its branch failed alike, and the sentence came twice."""
    gone = Source("huggingface", REPO, "f" * 40)
    write_lock(tmp_path / "shipped.lock", {NAME: replace(MODEL, sources=(gone,))})
    serve()
    assert error_of(run("pull", NAME)).count("there is no such model") == 1


@pytest.mark.parametrize("hub", ["huggingface", "modelscope"])
def test_the_proxy_is_named_when_a_hub_cannot_be_reached(
    hub: str, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bug: "check the network", which was well."""
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    error = error_of(run("pull", NAME, "--source", hub))
    assert "cannot be reached" in error and "the proxy that http_proxy names" in error


def test_a_kill_before_the_lock_is_written_costs_nothing(
    models: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bug: where the shipped lock knew the hashes, the receipt said that all was there, and what was learned of
    the model stayed out of the user's lock for ever."""
    hub = serve(tiny())
    files = tuple(LockedFile(name, len(data), sha256(data)) for name, data in NEEDED.items())
    write_lock(models.parents[1] / "shipped.lock", {NAME: replace(MODEL, files=files)})
    done("pull", NAME)
    learned = read_lock(lock_path(models))[NAME]
    (checkpoint(models) / "config.json").unlink()
    lock_path(models).unlink()

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("edge.fetch.remember", killed)
        assert run("pull", NAME).exit_code == 130
    asked_before = len(hub.requests)
    done("pull", NAME)
    assert read_lock(lock_path(models))[NAME] == learned
    assert not [request for request in hub.requests[asked_before:] if WEIGHTS in request.segments]
