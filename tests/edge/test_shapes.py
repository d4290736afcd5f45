"""What is known of a model's tensors before there is a file: the same as the conversion makes of a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convert import gguf_file
from convert.architecture import ModelPlan, plan
from convert.architectures import REGISTRY
from convert.checkpoint import Checkpoint, open_checkpoint
from convert.errors import CheckpointError, EdgeError, UnsupportedError
from convert.file_plan import plan_files
from convert.levels import LEVELS
from convert.pipeline import convert
from edge.lock import CONFIG
from edge.lock_config import facts_of
from edge.lock_file import read_lock, shipped_path
from edge.shapes import (
    ModelShape,
    Named,
    file_tensors,
    from_checkpoint_config,
    from_config,
    from_gguf,
    largest,
    level_tensors,
)
from tests.checkpoints import FAMILIES, read_json
from tests.convert.small import CASES, build_small
from tests.edge import tiny_gguf

LOCK = read_lock(shipped_path())
UNKNOWN = {"glm-z1-9b-0414"}  # the lock has only its sources

# What the words do not tell: ends of names that the shape has and the checkpoint has not, or the other way.
UNTOLD_BY_LOCK = {"glm-edge": ("attn_q.bias", "attn_k.bias", "attn_v.bias")}
UNTOLD_BY_CONFIG = {"qwen2-head": ("output.weight",)}
NO_WORD = "qwen3next-no-mtp"  # its config.json does not say that the layer of prediction is missing


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = tmp_path_factory.mktemp("shapes")
    return {name: build_small(made / name, name) for name in CASES}


@pytest.fixture
def checkpoint(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Iterator[Checkpoint]:
    with open_checkpoint(folders[request.param]) as found:
        yield found


def name_of(checkpoint: Checkpoint) -> str:
    return checkpoint.folder.name


def differences(shape: ModelShape, model: ModelPlan) -> set[str]:
    """Names that only one of both has; the shapes of all others are the same."""
    planned = {tensor.name: tensor.shape for tensor in model.tensors}
    found = dict(shape.tensors)
    both = found.keys() & planned.keys()
    assert len(found) == len(shape.tensors) and both
    assert {name: found[name] for name in both} == {name: planned[name] for name in both}
    return found.keys() ^ planned.keys()


@pytest.mark.parametrize("checkpoint", FAMILIES, indirect=True)
def test_the_locks_words_give_the_tensors_of_the_conversion(checkpoint: Checkpoint) -> None:
    facts, model = facts_of(checkpoint.config), plan(checkpoint, REGISTRY)
    shape = from_config(facts.architecture, facts.config, facts.context_length)
    untold = UNTOLD_BY_LOCK.get(name_of(checkpoint), ())
    assert shape.facts == model.facts
    assert differences(shape, model) == {f"blk.{i}.{end}" for i in range(shape.layers) for end in untold}


@pytest.mark.parametrize("checkpoint", sorted(CASES.keys() - {NO_WORD}), indirect=True)
def test_a_config_tells_all_but_what_only_tensors_tell(checkpoint: Checkpoint) -> None:
    """Biases, norms of queries, and layers of prediction, which a fine-tune may have lost."""
    shape, model = from_checkpoint_config(checkpoint.config), plan(checkpoint, REGISTRY)
    assert shape.facts == model.facts
    assert differences(shape, model) == set(UNTOLD_BY_CONFIG.get(name_of(checkpoint), ()))


def test_a_layer_of_prediction_is_supposed_where_nothing_is_said(folders: dict[str, Path]) -> None:
    shape = from_checkpoint_config(read_json(folders[NO_WORD] / "config.json"))
    assert (shape.layers, shape.facts.layers) == (4, 5)


@pytest.mark.parametrize("checkpoint", sorted(CASES.keys() - {NO_WORD, *UNTOLD_BY_CONFIG}), indirect=True)
def test_every_level_has_types_and_bytes_of_the_conversion(checkpoint: Checkpoint, tmp_path: Path) -> None:
    shape = from_checkpoint_config(checkpoint.config)
    _, files = plan_files(checkpoint, {level: tmp_path / level for level in LEVELS})
    assert len(files) == len(LEVELS)
    for file in files:
        found = {tensor.name: (tensor.qtype, tensor.nbytes) for tensor in level_tensors(shape, file.level.name)}
        assert found == {info.name: (info.qtype.name, info.nbytes) for info in file.infos}, file.level.name


@pytest.mark.parametrize("family", FAMILIES)
def test_a_file_has_the_shape_that_was_foretold(folders: dict[str, Path], family: str, tmp_path: Path) -> None:
    """The same numbers from its metadata; a matrix of one row is a vector there."""
    path = tmp_path / "x.gguf"
    convert(folders[family], {"Q4_K_M": path})
    file, foretold = gguf_file.read(path), from_checkpoint_config(read_json(folders[family] / "config.json"))
    shape = from_gguf(file)
    assert without_tensors(shape) == without_tensors(foretold)
    assert dict(shape.tensors) == {name: dims[1:] if dims[0] == 1 else dims for name, dims in foretold.tensors}
    assert shape.parameters == foretold.parameters == file.n_params
    as_file = {tensor.name: (tensor.qtype, tensor.nbytes) for tensor in file_tensors(file)}
    assert as_file == {tensor.name: (tensor.qtype, tensor.nbytes) for tensor in level_tensors(foretold, "q4_k_m")}


def without_tensors(shape: ModelShape) -> dict[str, Any]:
    return {key: value for key, value in vars(shape).items() if key != "tensors"}


def test_the_numbers_of_a_hybrid(folders: dict[str, Path]) -> None:
    """One layer of four has full attention, three have states: a convolution's three last inputs, and a matrix for each
    of four value heads."""
    shape = from_checkpoint_config(read_json(folders["qwen35"] / "config.json"))
    assert (shape.layers, shape.attention_layers, shape.facts.layers) == (4, 1, 5)
    channels = 2 * 2 * 8 + 4 * 8
    assert shape.state_bytes == 3 * 4 * (3 * channels + 4 * 8 * 8)


def test_the_numbers_of_latent_attention(folders: dict[str, Path]) -> None:
    shape = from_checkpoint_config(read_json(folders["glm4moelite"] / "config.json"))
    assert (shape.latent, shape.heads, shape.kv_heads) == (True, 4, 1)
    assert (shape.key_length, shape.value_length) == (32 + 16, 32)
    assert (shape.experts, shape.experts_used, shape.layers, shape.facts.layers) == (2, 2, 3, 4)


# --- the shipped lock

# Billions of parameters as published. Where a model card counts neither prediction nor a stored output matrix, the
# count of all tensors that the hub shows; of Qwen3.5-0.8B that one without its vision part.
PUBLISHED = {
    "chatglm3-6b": 6.24,
    "glm-4-9b": 9.40,
    "glm-4-9b-0414": 9.40,
    "glm-4-9b-hf": 9.40,
    "glm-4.5-air": 110.0,
    "glm-4.7-flash": 31.0,
    "qwen-7b-chat": 7.72,
    "qwen1.5-7b-chat": 7.72,
    "qwen2-0.5b": 0.494,
    "qwen2-7b": 7.62,
    "qwen2.5-0.5b": 0.494,
    "qwen2.5-1.5b": 1.54,
    "qwen2.5-14b": 14.8,
    "qwen2.5-3b": 3.09,
    "qwen2.5-7b": 7.62,
    "qwen2.5-coder-0.5b": 0.494,
    "qwen2.5-coder-1.5b": 1.54,
    "qwen2.5-coder-7b": 7.62,
    "qwen2.5-math-7b": 7.62,
    "qwen3-0.6b": 0.752,
    "qwen3-1.7b": 2.03,
    "qwen3-30b-a3b": 30.5,
    "qwen3-4b": 4.02,
    "qwen3-4b-2507": 4.02,
    "qwen3-8b": 8.19,
    "qwen3.5-0.8b": 0.773,
}


def locked_shape(name: str) -> ModelShape:
    model = LOCK[name]
    assert model.architecture and model.context_length
    return from_config(model.architecture, model.config, model.context_length)


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_as_published(name: str) -> None:
    shape = locked_shape(name)
    assert shape.parameters / 1e9 == pytest.approx(PUBLISHED[name], rel=0.01)
    assert shape.context_length == LOCK[name].context_length
    assert shape.vocabulary == LOCK[name].config["vocab_size"]
    assert shape.hidden == LOCK[name].config["hidden_size"]


def test_every_model_of_the_lock_is_looked_at() -> None:
    assert PUBLISHED.keys() == LOCK.keys() - UNKNOWN


@pytest.mark.parametrize(
    "name", [name for name, model in LOCK.items() if any("safetensors" in f.name for f in model.files)]
)
def test_a_checkpoint_of_16_bits_has_two_bytes_a_parameter(name: str) -> None:
    """Qwen3-0.6B was foretold a quarter too small: it stores its output matrix although it is tied."""
    files = [file.size for file in LOCK[name].files if file.name.endswith(".safetensors")]
    headers = sum(files) - 2 * locked_shape(name).parameters
    assert 0 < headers < 100_000


def test_a_model_of_which_the_lock_knows_nothing() -> None:
    with pytest.raises(EdgeError, match="does not know hidden_size, num_hidden_layers"):
        from_config("Glm4ForCausalLM", LOCK["glm-z1-9b-0414"].config, 32768)
    with pytest.raises(UnsupportedError, match="LlamaForCausalLM"):
        from_config("LlamaForCausalLM", LOCK["qwen3-8b"].config, 32768)


@pytest.mark.parametrize("config", [{}, {"architectures": ["Qwen2ForCausalLM"]}, None])
def test_a_config_that_cannot_be_converted_is_refused(config: Any) -> None:
    with pytest.raises(CheckpointError):
        from_checkpoint_config(config)


@given(
    st.sampled_from(sorted(PUBLISHED)),
    st.sampled_from(sorted(REGISTRY)),
    st.booleans(),
    st.dictionaries(st.sampled_from(CONFIG), st.sampled_from([0, 1, 2, 3, 64, 513, 2**31, 2**50 - 1]), max_size=3),
    st.sets(st.sampled_from(CONFIG), max_size=2),
)
def test_any_words_that_a_lock_may_hold_give_a_shape_or_an_error_in_plain_words(
    name: str, other: str, swap: bool, junk: dict[str, int], without: set[str]
) -> None:
    """A user's lock is a text file: numbers in it are checked for being numbers only."""
    model = LOCK[name]
    words = {key: value for key, value in (dict(model.config) | junk).items() if key not in without}
    try:
        shape = from_config(other if swap else str(model.architecture), words, 4096)
    except EdgeError:
        return
    assert 0 <= shape.attention_layers <= shape.layers <= shape.facts.layers <= 512
    assert shape.parameters > 0 and shape.state_bytes >= 0


# --- files that somebody else made


def test_counts_by_layer_are_the_largest() -> None:
    metadata = {"general.architecture": "x", "x.n": np.array([0, 2, 1], np.int32), "x.odd": [], "x.text": "8"}
    assert [largest(metadata, key, 7) for key in ("n", "odd", "text", "missing")] == [2, 7, 7, 7]


def test_a_file_without_lengths_has_heads_of_equal_parts(tiny_path: Path) -> None:
    shape = from_gguf(gguf_file.read(tiny_path))
    assert (shape.key_length, shape.value_length, shape.kv_heads, shape.heads) == (16, 16, 2, 4)
    assert (shape.layers, shape.attention_layers, shape.state_bytes, shape.latent) == (2, 2, 0, False)
    assert (shape.hidden, shape.vocabulary, shape.context_length) == (64, 300, 512)
    assert Named("blk.1.ffn_up.weight", (128, 64)) in shape.tensors


@pytest.fixture
def tiny_path(tmp_path: Path) -> Path:
    return tiny_gguf.write(tmp_path / "tiny.gguf")
