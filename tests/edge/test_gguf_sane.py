from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert import gguf_file
from convert.gguf_file import GgufError
from edge.gguf_sane import check_sane
from tests.edge import tiny_gguf

TOKENS, TYPES = tiny_gguf.vocabulary()
GLM4 = {key.replace("qwen2.", "glm4."): value for key, value in tiny_gguf.metadata().items() if key[:6] == "qwen2."}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split.count": 2}, "llama-gguf-split"),
        ({"qwen2.block_count": 0}, "block_count"),
        ({"qwen2.block_count": 513}, "block_count"),
        ({"qwen2.block_count": None}, "missing"),
        ({"qwen2.block_count": "2"}, "not a count"),
        ({"qwen2.nextn_predict_layers": 2}, "leaves no layer"),
        ({"qwen2.rope.scaling.type": "spiral"}, "spiral"),
        ({"qwen2.attention.layer_norm_rms_epsilon": float("nan")}, "epsilon"),
        ({"qwen2.attention.layer_norm_rms_epsilon": -1.0}, "epsilon"),
        ({"qwen2.expert_count": 4}, "experts"),
        ({"qwen2.expert_used_count": 4}, "experts"),
        ({"qwen2.expert_count": 8, "qwen2.expert_used_count": 2, "qwen2.expert_group_count": 3}, "experts"),
        ({"qwen2.attention.head_count": 0}, "attention heads"),
        ({"qwen2.attention.head_count_kv": 3}, "cannot share"),
        ({"qwen2.attention.key_length": 32}, "keys of 32"),
        ({"qwen2.rope.dimension_count": 8}, "RoPE over 8"),
        ({"qwen2.rope.dimension_count": 32}, "RoPE over 32"),
        ({"general.architecture": "glm4", **GLM4, "glm4.rope.dimension_count": 0}, "RoPE over 0"),
        ({"tokenizer.ggml.model": "no_vocab"}, "no vocabulary"),
        ({"tokenizer.ggml.tokens": None}, "no vocabulary"),
        ({"tokenizer.ggml.tokens": [1, 2, 3]}, "no vocabulary"),
        ({"tokenizer.ggml.tokens": [*TOKENS[:-1], TOKENS[0]]}, "occur twice"),
        ({"tokenizer.ggml.tokens": [*TOKENS[:-2], "", f"[EMPTY_{len(TOKENS) - 2}]"]}, "occur twice"),
        ({"tokenizer.ggml.token_type": TYPES[:-1]}, "does not match"),
        ({"tokenizer.ggml.token_type": [float(t) for t in TYPES]}, "does not match"),
        ({"tokenizer.ggml.scores": [1.0]}, "does not match"),
        ({"tokenizer.ggml.merges": None}, "no merges"),
        ({"tokenizer.ggml.eos_token_id": 300}, "eos_token_id is 300"),
        ({"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.bos_token_id": None}, "without bos_token_id"),
        ({"tokenizer.ggml.model": "llama"}, "no token for byte"),
    ],
)
def test_what_would_end_the_process_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    """Each of these made llama.cpp assert, divide by zero, compute for ever or throw where nothing catches it."""
    file = gguf_file.read(tiny_gguf.write(tmp_path / "tiny.gguf", changes))
    with pytest.raises(GgufError) as caught:
        check_sane(file)
    assert message in str(caught.value)
    assert "tiny.gguf" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "dtype", "message"),
    [("output_norm.weight", np.float16, "must be F32"), ("token_embd.weight", np.int32, "cannot be computed")],
)
def test_tensor_types_without_a_kernel(tmp_path: Path, name: str, dtype: Any, message: str) -> None:
    weights = tiny_gguf.tensors()
    weights[name] = weights[name].astype(dtype)
    file = gguf_file.read(tiny_gguf.write(tmp_path / "tiny.gguf", weights=weights))
    with pytest.raises(GgufError, match=message):
        check_sane(file)


def test_one_count_for_each_layer(tmp_path: Path) -> None:
    changes = {"qwen2.attention.head_count": [4, 4], "qwen2.attention.head_count_kv": [2, 0]}
    check_sane(gguf_file.read(tiny_gguf.write(tmp_path / "tiny.gguf", changes)))


KEYS = [
    *tiny_gguf.metadata(),
    *(f"qwen2.{key}" for key in ("expert_count", "expert_used_count", "nextn_predict_layers", "rope.scaling.type")),
    *(f"qwen2.{key}" for key in ("attention.key_length", "attention.value_length", "rope.dimension_count")),
    *(f"tokenizer.ggml.{key}" for key in ("scores", "unknown_token_id", "add_eos_token")),
    *("general.architecture", "split.count"),
]
ODD = [-1, 2**64 - 1, 0.5, True, "", "x", [], ["a", "b"], np.zeros(2, np.float32), np.arange(3), np.zeros(0, np.int32)]


@pytest.mark.parametrize("key", KEYS)
def test_values_of_any_type_are_refused_or_pass(tmp_path: Path, key: str) -> None:
    """An array where a text was expected once ended in numpy's ValueError about truth."""
    file = gguf_file.read(tiny_gguf.write(tmp_path / "tiny.gguf"))
    for value in ODD:
        try:
            check_sane(dataclasses.replace(file, metadata=file.metadata | {key: value}))
        except GgufError as error:
            assert "\n" not in str(error)
