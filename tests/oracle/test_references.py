"""Our references for models with remote code against transformers' classes for their relatives.

glm-4-9b-chat and glm-4-9b-chat-hf are the same function with other names, Qwen-7B is Qwen2 with as many key heads as
query heads: so the same weights under the other names must give the same logits.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from tests import vocabulary
from tests.checkpoints import FAMILIES, build, edit_json, splitmix64, write_json
from tests.oracle.logits import mean_kl, reference_logits, transformers_logits

# Part of the name there -> here; rows of the product of query, key and value
GLM_NAMES = {
    "transformer.embedding.word_embeddings": "model.embed_tokens",
    "transformer.encoder.final_layernorm": "model.norm",
    "transformer.encoder.layers": "model.layers",
    "transformer.output_layer": "lm_head",
    "self_attention.query_key_value": "self_attn.qkv_proj",
    "self_attention.dense": "self_attn.o_proj",
    "mlp.dense_h_to_4h": "mlp.gate_up_proj",
    "mlp.dense_4h_to_h": "mlp.down_proj",
}
QWEN_NAMES = {
    "transformer.wte": "model.embed_tokens",
    "transformer.ln_f": "model.norm",
    "transformer.h": "model.layers",
    "ln_1": "input_layernorm",
    "ln_2": "post_attention_layernorm",
    "attn.c_attn": "self_attn.qkv_proj",
    "attn.c_proj": "self_attn.o_proj",
    "mlp.w1": "mlp.up_proj",
    "mlp.w2": "mlp.gate_proj",
    "mlp.c_proj": "mlp.down_proj",
}
GLM = {"architectures": ["GlmForCausalLM"], "model_type": "glm", "num_key_value_heads": 2, "head_dim": 64}
GLM |= {"pad_token_id": None}
QWEN2 = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "num_key_value_heads": 4}
SIZES = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 4}


def relative(checkpoint: Path, folder: Path, names: Mapping[str, str], config: Mapping[str, Any]) -> Path:
    """The checkpoint's weights under the names of a model that transformers has a class for."""
    folder.mkdir()
    rows = [64 * config[heads] for heads in ("num_attention_heads", "num_key_value_heads", "num_key_value_heads")]
    tensors = {}
    for name, tensor in load_file(checkpoint / "model.safetensors").items():
        for old, new in names.items():
            name = name.replace(old, new)
        parts = zip("qkv", tensor.split(rows), strict=True) if "qkv_proj" in name else [("", tensor)]
        tensors |= {name.replace("qkv_proj", f"{one}_proj"): part.contiguous() for one, part in parts}
    tensors.pop("transformer.rotary_pos_emb.inv_freq", None)
    save_file(tensors, folder / "model.safetensors")
    vocab = len(tensors["lm_head.weight"])
    write_json(folder / "config.json", {"vocab_size": vocab, "tie_word_embeddings": False, **config})
    return folder


def tokens(family: str) -> list[int]:
    return [int(token) for token in splitmix64(7, 100) % np.uint64(vocabulary.size(FAMILIES[family].tokens))]


@pytest.mark.parametrize(
    ("family", "names", "config"),
    [
        ("chatglm3", GLM_NAMES, {**GLM, "rms_norm_eps": 1e-5, "rope_theta": 10000.0}),
        ("chatglm4", GLM_NAMES, {**GLM, "rms_norm_eps": 1.5625e-7, "rope_theta": 5000000.0}),
        ("qwen", QWEN_NAMES, {**QWEN2, "rms_norm_eps": 1e-6, "rope_theta": 10000.0}),
        ("qwen-first", QWEN_NAMES, {**QWEN2, "rms_norm_eps": 1e-5, "rope_theta": 10000.0}),
    ],
    ids=["chatglm3", "chatglm4", "qwen", "qwen-first"],
)
def test_a_reference_is_its_relative(family: str, names: Mapping[str, str], config: dict[str, Any], tmp_path: Path):
    checkpoint = build(tmp_path / family, family=family)
    other = relative(checkpoint, tmp_path / "other", names, SIZES | config)
    ids = tokens(family)
    expected = transformers_logits(other, ids)
    assert mean_kl(expected, reference_logits(checkpoint, ids)) < 1e-10
    for wrong in ({"rope_theta": 500.0}, {"rms_norm_eps": 1e-3}):  # the comparison sees the details
        edit_json(other / "config.json", **wrong)
        assert mean_kl(transformers_logits(other, ids), reference_logits(checkpoint, ids)) > 1e-6
        edit_json(other / "config.json", **config)


def test_qwen_beyond_its_length_is_refused(tmp_path: Path):
    """There, dynamic NTK and log-n attention would change the equations without a word."""
    checkpoint = build(tmp_path / "qwen", family="qwen", config={"seq_length": 8})
    with pytest.raises(ValueError, match="beyond seq_length"):
        reference_logits(checkpoint, tokens("qwen"))
