"""A model from doubles of the hubs: only what is needed, the config first, every hash kept and compared."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from convert.errors import EdgeError, UnsupportedError
from edge.errors import HubError
from edge.hub.folder import Folder
from edge.hub.huggingface import HuggingFace
from edge.hub.modelscope import ModelScope
from edge.hub.source import RemoteFile, Source
from edge.lock import LockedFile, LockError
from edge.pull import check_room, pin, pull
from tests.edge.tiny_hub import MODEL, NEEDED, REPO, SMALL, WEIGHTS, asked, config, content_of, sha256, tiny
from tests.hub.double import Double
from tests.hub.faults import RevisionGone, Rule, Status, WrongBytes
from tests.hub.huggingface import HuggingFaceDouble
from tests.hub.modelscope import ModelScopeDouble

OTHER = bytes(len(NEEDED[WEIGHTS]))  # of the same size
HUBS = {"huggingface": HuggingFaceDouble, "modelscope": ModelScopeDouble}


def at(hub: Double, revision: str | None = None) -> Source:
    if isinstance(hub, HuggingFaceDouble):
        return HuggingFace(REPO, revision or "main", endpoint=hub.endpoint)
    return ModelScope(REPO, endpoint=hub.endpoint)


# --- which files


@pytest.mark.parametrize("hub_name", HUBS)
def test_only_what_a_conversion_needs_and_the_config_first(hub_name: str, tmp_path: Path) -> None:
    with HUBS[hub_name]([tiny()]) as hub:
        pulled = pull(MODEL, tmp_path, [at(hub)])
        assert asked(hub)[0] == "config.json" and set(asked(hub)) == set(NEEDED)
    assert content_of(tmp_path) == NEEDED and set(pulled.files) == set(NEEDED)
    assert pulled.fetched_bytes == sum(map(len, NEEDED.values()))


@pytest.mark.parametrize("name", ["modeling_tiny.py", "pytorch_model.bin"])
def test_code_and_pickles_are_not_fetched_even_by_name(name: str, tmp_path: Path) -> None:
    with HuggingFaceDouble([tiny()]) as hub:
        with pytest.raises(HubError, match="never fetched"):
            pull(MODEL, tmp_path, [at(hub)], only=[name])
        assert asked(hub) == []


def test_a_glob_leaves_out_what_is_never_fetched(tmp_path: Path) -> None:
    with HuggingFaceDouble([tiny()]) as hub:
        with pytest.raises(HubError, match=r"has no file \*.py"):
            pull(MODEL, tmp_path, [at(hub)], only=["*.py"])
        pull(MODEL, tmp_path, [at(hub)], only=["*"])
        assert {*NEEDED} <= set(asked(hub)) and not [
            name for name in asked(hub) if name.endswith((".py", ".bin", ".pt"))
        ]


def test_files_by_name_and_by_glob(tmp_path: Path) -> None:
    with HuggingFaceDouble([tiny()]) as hub:
        pull(MODEL, tmp_path, [at(hub)], only=["tokenizer*.json", "merges.txt"])
        assert set(asked(hub)) == {"tokenizer.json", "tokenizer_config.json", "merges.txt"}
        with pytest.raises(HubError, match=r"has no file nothing.json; it has .*config.json"):
            pull(MODEL, tmp_path, [at(hub)], only=["nothing.json"])


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"architectures": ["NopeForCausalLM"]}, "NopeForCausalLM"),
        ({"quantization_config": {"quant_method": "gptq"}}, "gptq"),
    ],
    ids=["unknown family", "quantized"],
)
@pytest.mark.parametrize("learn", [pull, pin])
def test_what_cannot_be_converted_is_refused_before_its_weights(
    learn: Callable[..., object], changed: dict[str, object], says: str, tmp_path: Path
) -> None:
    with HuggingFaceDouble([tiny({"config.json": config(**changed)})]) as hub:
        with pytest.raises(UnsupportedError, match=says):
            learn(MODEL, tmp_path, [at(hub)])
        assert "config.json" in asked(hub) and WEIGHTS not in asked(hub)


def index(*shards: str) -> dict[str, bytes]:
    weight_map = {f"tensor{number}": shard for number, shard in enumerate(shards)}
    return {"model.safetensors.index.json": json.dumps({"weight_map": weight_map}).encode()}


def test_the_index_names_the_shards(tmp_path: Path) -> None:
    shards = {f"model-0000{i}-of-00002.safetensors": b"%d" % i * 99 for i in (1, 2)}
    with HuggingFaceDouble([tiny({**shards, **index(*shards)})]) as hub:
        pull(MODEL, tmp_path, [at(hub)])
        assert shards.keys() <= set(asked(hub)) and WEIGHTS not in asked(hub)


def test_a_shard_that_is_missing_is_named(tmp_path: Path) -> None:
    shards = {"model-1.safetensors": b"1", **index("model-1.safetensors", "model-2.safetensors")}
    with HuggingFaceDouble([tiny(shards)]) as hub:
        with pytest.raises(HubError, match=r"has no model-2\.safetensors"):
            pull(MODEL, tmp_path, [at(hub)])
        assert "model-1.safetensors" not in asked(hub)


@pytest.mark.parametrize(("without", "says"), [(WEIGHTS, "pickles"), ("config.json", "there is no config.json")])
def test_a_repository_that_is_no_checkpoint(without: str, says: str, tmp_path: Path) -> None:
    with HuggingFaceDouble([tiny(without=without)]) as hub, pytest.raises(HubError, match=says):
        pull(MODEL, tmp_path, [at(hub)])


EVIL = ["../x.json", "a/../../x.json", "C:x.json", "con.json", "/tmp/x.json", "a\\..\\x.json", "..", "a//x.json"]


@pytest.mark.parametrize("name", EVIL)
@pytest.mark.parametrize("hub_name", HUBS)
def test_a_name_that_leaves_the_folder(name: str, hub_name: str, tmp_path: Path) -> None:
    with HUBS[hub_name]([tiny({name: b"{}"})]) as hub:
        with pytest.raises(HubError, match="cannot be a file's name here"):
            pull(MODEL, tmp_path / "deep" / "er", [at(hub)], only=[name])
        assert asked(hub) == []
        pull(MODEL, tmp_path / "deep" / "er", [at(hub)])  # it is not needed, and does no harm
    assert content_of(tmp_path).keys() == {f"deep/er/{needed}" for needed in NEEDED}


@pytest.mark.parametrize("name", ["C:x.tiktoken", "additional_chat_templates/nul.jinja", "model\\..\\x.safetensors"])
def test_a_needed_file_with_such_a_name(name: str, tmp_path: Path) -> None:
    with HuggingFaceDouble([tiny({name: b"x"})]) as hub:
        with pytest.raises(HubError, match="cannot be a file's name here"):
            pull(MODEL, tmp_path, [at(hub)])
        assert name not in asked(hub)


def test_an_index_that_leads_out_of_the_folder(tmp_path: Path) -> None:
    evil = {"../../x.safetensors": b"x", **index("../../x.safetensors")}
    with HuggingFaceDouble([tiny(evil)]) as hub, pytest.raises(EdgeError, match=r"x\.safetensors"):
        pull(MODEL, tmp_path / "deep" / "er", [at(hub)])
    assert not list(tmp_path.glob("x*"))


# --- which bytes


@pytest.mark.parametrize("hub_name", HUBS)
def test_what_is_learned(hub_name: str, tmp_path: Path) -> None:
    repo = tiny()
    with HUBS[hub_name]([repo]) as hub:
        learned = pull(MODEL, tmp_path, [at(hub)]).model
    assert {file.name: (file.size, file.sha256) for file in learned.files} == {
        name: (len(data), sha256(data)) for name, data in NEEDED.items()
    }
    assert (learned.architecture, learned.context_length) == ("Qwen2ForCausalLM", 2048)
    assert learned.config["hidden_size"] == 256
    if hub_name == "huggingface":
        assert (learned.licence, learned.sources[0].revision) == ("apache-2.0", repo.head)


def test_pin_learns_the_same_without_the_weights(tmp_path: Path) -> None:
    with HuggingFaceDouble([tiny()]) as hub:
        pinned = pin(MODEL, tmp_path / "a", [at(hub)]).model
        assert set(asked(hub)) == set(SMALL)
        pulled = pull(MODEL, tmp_path / "b", [at(hub)]).model
    assert replace(pinned, files=()) == replace(pulled, files=())
    assert set(pinned.files) == set(pulled.files)


def test_another_hash_later_names_both_and_the_files_stay(tmp_path: Path) -> None:
    with HuggingFaceDouble([tiny()]) as hub:
        learned = pull(MODEL, tmp_path, [at(hub)]).model
    with HuggingFaceDouble([tiny({WEIGHTS: OTHER})]) as hub:
        with pytest.raises(LockError) as caught:
            pull(learned, tmp_path, [at(hub)])
        assert asked(hub) == []
    assert sha256(NEEDED[WEIGHTS]) in caught.value.message and sha256(OTHER) in caught.value.message
    assert content_of(tmp_path) == NEEDED


def test_another_small_file_later_names_both(tmp_path: Path) -> None:
    """Hugging Face lists no SHA-256 of a small file: only its bytes tell."""
    with HuggingFaceDouble([tiny()]) as hub:
        learned = pull(MODEL, tmp_path / "old", [at(hub)]).model
    other = bytes(len(SMALL["tokenizer.json"]))
    with HuggingFaceDouble([tiny({"tokenizer.json": other})]) as hub, pytest.raises(HubError) as caught:
        pull(learned, tmp_path / "new", [at(hub)])
    assert sha256(SMALL["tokenizer.json"]) in caught.value.message and sha256(other) in caught.value.message
    assert not (tmp_path / "new" / "tokenizer.json").exists()


@pytest.mark.parametrize("locked", [(len(OTHER), sha256(OTHER)), (7, sha256(NEEDED[WEIGHTS]))], ids=["hash", "size"])
def test_a_listing_that_differs_from_the_lock(locked: tuple[int, str], tmp_path: Path) -> None:
    model = replace(MODEL, files=(LockedFile(WEIGHTS, *locked),))
    with HuggingFaceDouble([tiny()]) as hub, pytest.raises(LockError, match=r"is locked as .*, but the source lists"):
        pull(model, tmp_path, [at(hub)])


def test_a_small_file_is_checked_by_gits_hash(tmp_path: Path) -> None:
    faults = [Rule("tokenizer.json", WrongBytes(5), times=None)]
    with HuggingFaceDouble([tiny()], faults) as hub, pytest.raises(HubError, match=r"tokenizer.json has git's SHA-1"):
        pull(MODEL, tmp_path, [at(hub)])
    assert not (tmp_path / "tokenizer.json").exists()


# --- from where


@pytest.mark.parametrize("vanishes", ["before", "on the way"])
def test_a_revision_that_vanished(vanishes: str, tmp_path: Path) -> None:
    """The branch will do when it has the same bytes."""
    repo = tiny()
    locked = replace(MODEL, files=tuple(LockedFile(name, len(data), sha256(data)) for name, data in NEEDED.items()))
    repo.revisions["f" * 40] = repo.revisions[repo.head]
    fault = {
        "before": Rule("/api/*/ffff*", RevisionGone(), on="api"),
        "on the way": Rule(WEIGHTS, RevisionGone(), on="link"),
    }[vanishes]
    with HuggingFaceDouble([repo], [fault]) as hub:
        pull(locked, tmp_path, [at(hub, "f" * 40), at(hub)])
        assert hub.script.unmet() == [] and "f" * 40 not in repo.revisions
    assert content_of(tmp_path) == NEEDED


def test_a_revision_that_vanished_and_a_branch_with_other_bytes(tmp_path: Path) -> None:
    locked = replace(MODEL, files=(LockedFile(WEIGHTS, len(OTHER), sha256(OTHER)),))
    with HuggingFaceDouble([tiny()]) as hub, pytest.raises(HubError) as caught:
        pull(locked, tmp_path, [at(hub, "f" * 40), at(hub)])
    assert "there is no revision ffff" in caught.value.message and sha256(OTHER) in caught.value.message
    assert content_of(tmp_path) == {}


def test_the_second_source_when_the_first_is_down(tmp_path: Path) -> None:
    with HuggingFaceDouble([tiny()]) as first, ModelScopeDouble([tiny()]) as second, first.down():
        pull(MODEL, tmp_path, [at(first), at(second)])
        assert set(asked(second)) == set(NEEDED)
    assert content_of(tmp_path) == NEEDED


def test_the_second_source_when_the_first_serves_only_the_listing(tmp_path: Path) -> None:
    faults = [Rule("*", Status(404), times=None, on="link"), Rule("*", Status(404), times=None)]
    with HuggingFaceDouble([tiny()], faults) as first, ModelScopeDouble([tiny()]) as second:
        pull(MODEL, tmp_path, [at(first), at(second)])
    assert content_of(tmp_path) == NEEDED


@pytest.mark.parametrize("error_status", [200, 404])
def test_the_second_source_when_modelscope_does_not_know_the_model(error_status: int, tmp_path: Path) -> None:
    with ModelScopeDouble([], error_status=error_status) as first, HuggingFaceDouble([tiny()]) as second:
        pull(MODEL, tmp_path, [at(first), at(second)])
    assert content_of(tmp_path) == NEEDED


@pytest.mark.parametrize(
    "body",
    [
        b'{"Success": false, "Message": "no", "Data": {"Files": []}}',
        b'{"Success": true, "Data": null}',
        b'{"Success": true, "Data": {"Files": [{"Path": "config.json", "Size": -1}]}}',
        b'{"Success": true, "Data": {"Files": [{"Path": 5, "Size": 1}]}}',
        b"[]",
        b"<html>please log in</html>",
        b"\xff",
    ],
)
def test_the_second_source_when_modelscope_answers_200_and_nonsense(body: bytes, tmp_path: Path) -> None:
    faults = [Rule("*", Status(200, body=body), on="api", times=None)]
    with ModelScopeDouble([tiny()], faults) as first, HuggingFaceDouble([tiny()]) as second:
        with pytest.raises(HubError, match="ModelScope"):
            pull(MODEL, tmp_path, [at(first)])
        pull(MODEL, tmp_path, [at(first), at(second)])
    assert content_of(tmp_path) == NEEDED


def test_a_listing_that_modelscope_cut_is_not_used(tmp_path: Path) -> None:
    """It ends after 3,000 entries and does not say so: what is needed may be missing."""
    many = {f"assets/{i}.txt": b"" for i in range(3_000)}
    with ModelScopeDouble([tiny(many)]) as first, HuggingFaceDouble([tiny(many)]) as second:
        with pytest.raises(HubError, match="more files than ModelScope lists"):
            pull(MODEL, tmp_path, [at(first)])
        pull(MODEL, tmp_path, [at(first), at(second)])
        assert asked(first) == []
    assert content_of(tmp_path) == NEEDED


def test_every_failure_is_named(tmp_path: Path) -> None:
    with HuggingFaceDouble([]) as first, ModelScopeDouble([]) as second, pytest.raises(HubError) as caught:
        pull(MODEL, tmp_path, [at(first), at(second)])
    assert f"Hugging Face {REPO}: there is no such model" in caught.value.message
    assert f"ModelScope {REPO}: revision master is not there" in caught.value.message


def test_a_gated_model_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with HuggingFaceDouble([tiny(gated=True)], tokens={"hf_new": False, "hf_granted": True}) as hub:
        with pytest.raises(HubError, match=r"it needs a token; ask for access at .* then set HF_TOKEN"):
            pull(MODEL, tmp_path, [at(hub)])
        monkeypatch.setenv("HF_TOKEN", "hf_new")
        with pytest.raises(HubError, match=r"access is not granted; the token in use is not enough: ask for access at"):
            pull(MODEL, tmp_path, [at(hub)])
        monkeypatch.setenv("HF_TOKEN", "hf_granted")
        pull(MODEL, tmp_path, [at(hub)])
    assert content_of(tmp_path) == NEEDED


def test_a_cache_serves_bytes_whose_hash_is_known_and_lists_nothing(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / WEIGHTS).write_bytes(NEEDED[WEIGHTS])
    (cache / "extra.json").write_bytes(b"{}")
    with HuggingFaceDouble([tiny()]) as hub:
        pull(MODEL, tmp_path / "out", [at(hub)], caches=[Folder(cache)])
        assert set(asked(hub)) == set(SMALL)
        with pytest.raises(HubError, match=r"has no file extra\.json"):
            pull(MODEL, tmp_path / "out", [at(hub)], caches=[Folder(cache)], only=["extra.json"])
    assert content_of(tmp_path / "out") == NEEDED


def test_a_cache_with_other_bytes_is_not_believed(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / WEIGHTS).write_bytes(OTHER)
    with HuggingFaceDouble([tiny()]) as hub:
        pull(MODEL, tmp_path / "out", [at(hub)], caches=[Folder(cache)])
    assert content_of(tmp_path / "out") == NEEDED


# --- what is there already


def test_a_file_put_there_by_hand_is_adopted(tmp_path: Path) -> None:
    (tmp_path / WEIGHTS).write_bytes(NEEDED[WEIGHTS])
    (tmp_path / "tokenizer.json").write_bytes(SMALL["tokenizer.json"])
    with HuggingFaceDouble([tiny()]) as hub:
        pulled = pull(MODEL, tmp_path, [at(hub)])
        assert set(asked(hub)) == NEEDED.keys() - {WEIGHTS, "tokenizer.json"}
    assert set(pulled.files) == set(NEEDED)


@pytest.mark.parametrize("name", [WEIGHTS, "tokenizer.json"])
def test_a_file_with_another_hash_is_not_adopted(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(bytes(len(NEEDED[name])))
    with HuggingFaceDouble([tiny()]) as hub:
        pull(MODEL, tmp_path, [at(hub)])
        assert name in asked(hub)
    assert content_of(tmp_path) == NEEDED


def damage(path: Path, *, same_time: bool) -> None:
    """Other bytes of the same size."""
    stat = path.stat()
    path.write_bytes(bytes(stat.st_size))
    later = 0 if same_time else 1_000_000_000
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + later))


def test_a_file_that_nobody_touched_is_not_hashed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else every start would read gigabytes."""
    with HuggingFaceDouble([tiny()]) as hub:
        learned = pull(MODEL, tmp_path, [at(hub)]).model
        monkeypatch.setattr("edge.pull.sha256_of", None)
        assert pull(learned, tmp_path, [at(hub)]).fetched_bytes == 0


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps no time of a file's last change but the one that can be set")
def test_a_copy_that_keeps_size_and_time_is_hashed_again(tmp_path: Path) -> None:
    """A receipt that is carried along on a stick must not vouch for what the stick did to the bytes."""
    with HuggingFaceDouble([tiny()]) as hub:
        learned = pull(MODEL, tmp_path, [at(hub)]).model
        damage(tmp_path / WEIGHTS, same_time=True)
        assert pull(learned, tmp_path, [at(hub)]).fetched_bytes == len(NEEDED[WEIGHTS])


def test_a_file_whose_time_changed_is_hashed_again(tmp_path: Path) -> None:
    with HuggingFaceDouble([tiny()]) as hub:
        learned = pull(MODEL, tmp_path, [at(hub)]).model
        damage(tmp_path / WEIGHTS, same_time=False)
        assert pull(learned, tmp_path, [at(hub)]).fetched_bytes == len(NEEDED[WEIGHTS])
    assert content_of(tmp_path) == NEEDED


def test_a_damaged_receipt_is_no_receipt(tmp_path: Path) -> None:
    with HuggingFaceDouble([tiny()]) as hub:
        learned = pull(MODEL, tmp_path, [at(hub)]).model
        damage(tmp_path / WEIGHTS, same_time=True)
        (tmp_path / ".edge-pull.json").write_text('{"complete": true, "files": {')
        assert pull(learned, tmp_path, [at(hub)]).fetched_bytes == len(NEEDED[WEIGHTS])
    assert content_of(tmp_path) == NEEDED


# --- while it runs


def disk_with(free: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))


def test_a_full_disk_is_seen_before_the_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk_with(90_000, monkeypatch)  # enough for the small files
    with HuggingFaceDouble([tiny({WEIGHTS: bytes(100_000)})]) as hub:
        with pytest.raises(HubError, match="are still to come"):
            pull(MODEL, tmp_path, [at(hub)])
        assert WEIGHTS not in asked(hub)


def test_a_full_disk_is_told_with_both_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk_with(2_000_000_000, monkeypatch)
    with pytest.raises(HubError, match=r"5\.00 GB are still to come, and .* has room for 2\.00 GB"):
        check_room(tmp_path, [RemoteFile("a", 4_000_000_000), RemoteFile("b", 1_000_000_000)])
    check_room(tmp_path, [RemoteFile("a", 2_000_000_000)])


def test_what_an_earlier_attempt_left_needs_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk_with(40_000, monkeypatch)
    (tmp_path / "a.partial").write_bytes(bytes(65_536))
    check_room(tmp_path, [RemoteFile("a", 100_000)])
    with pytest.raises(HubError, match="still to come"):
        check_room(tmp_path, [RemoteFile("b", 100_000)])


def test_progress_ends_with_all_bytes(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    with HuggingFaceDouble([tiny()], [Rule(WEIGHTS, Status(416))]) as hub:
        pull(MODEL, tmp_path, [at(hub)], on_progress=lambda *step: seen.append(step))
    total = sum(map(len, NEEDED.values()))
    assert seen[-1] == (WEIGHTS, total, total)
    assert all(0 <= done <= of for _, done, of in seen)


def test_a_list_of_chunks_that_a_kill_left(tmp_path: Path) -> None:
    """The bug: it came between the file's rename and the list's removal, and nobody removed the list any more."""
    with HuggingFaceDouble([tiny()]) as hub:
        (tmp_path / "config.json").write_bytes(NEEDED["config.json"])
        (tmp_path / "config.json.chunks").write_text("x in chunks of 1\n")
        pull(MODEL, tmp_path, [at(hub)])
    assert content_of(tmp_path) == NEEDED
