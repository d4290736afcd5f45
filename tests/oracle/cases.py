"""Checkpoints that only the oracle sees: too many or too large for the goldens. Same form, plus an edit."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from convert.levels import LEVELS
from tests import vocabulary
from tests.checkpoints import (
    FAMILIES,
    Stored,
    build,
    edit_json,
    read_json,
    write_json,
    write_safetensors,
)
from tests.goldens.cases import (
    CASES,
    CHATGLM3_WORDS,
    GLM_CORRECTED,
    GLM_THETA,
    QWEN_LENGTH,
    SENTENCEPIECE,
    SOME_LEVELS,
    TIKTOKEN_WORDS,
    YARN,
    Case,
)

QUANTIZED = ("Q8_0", "Q4_0", "Q4_K_M", "Q2_K")


@dataclass(frozen=True)
class EditedCase(Case):
    """A case whose files are changed after they are built."""

    edit: Callable[[Path], Any] = field(kw_only=True)

    def build(self, folder: Path) -> Path:
        self.edit(build(folder, **self.options))
        return folder


def tokenizer_config(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: edit_json(folder / "tokenizer_config.json", **changes)


def tokenizer_json(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: edit_json(folder / "tokenizer.json", **changes)


def template_post_processor(first: str, family: str = "qwen2") -> dict[str, Any]:
    """A post-processor that puts one special token before each text."""
    piece = {"SpecialToken": {"id": first, "type_id": 0}}
    sequences = [{"Sequence": {"id": name, "type_id": i}} for i, name in enumerate("AB")]
    ids = {"id": first, "ids": [vocabulary.token_id(family, first)], "tokens": [first]}
    return {
        "type": "TemplateProcessing",
        "single": [piece, sequences[0]],
        "pair": [piece, *sequences],
        "special_tokens": {first: ids},
    }


def with_template_post_processor(folder: Path) -> None:
    edit_json(folder / "tokenizer.json", post_processor=template_post_processor("<|endoftext|>"))
    edit_json(folder / "tokenizer_config.json", bos_token="<|endoftext|>", add_bos_token=True)


def with_old_buffers(folder: Path) -> None:
    """Old versions of transformers saved the rotary frequencies; both converters leave them out."""
    buffers = {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": Stored("F32", np.ones(32, "<f4")) for i in (0, 1)}
    name = "model-00003-of-00003.safetensors"
    write_safetensors(folder / name, buffers)
    index = read_json(folder / "model.safetensors.index.json")
    index["weight_map"] |= dict.fromkeys(buffers, name)
    write_json(folder / "model.safetensors.index.json", index)


def with_more_templates(folder: Path) -> None:
    more = folder / "additional_chat_templates"
    more.mkdir()
    (more / "tool_use.jinja").write_text("{{ messages | length }} tools", encoding="utf-8")


def without_generation_config(folder: Path) -> None:
    (folder / "generation_config.json").unlink()


def sampling(values: Mapping[str, Any]) -> Callable[[Path], None]:
    return lambda folder: write_json(folder / "generation_config.json", dict(values))


SMALL: dict[str, Any] = {"layers": 2, "ffn": 256}

ORACLE_ONLY: dict[str, Case] = {
    # llama.cpp takes 80 layers for the 70B model and gives attn_v another type
    "qwen2-eighty-layers": Case(QUANTIZED, {"layers": 80, "ffn": 256, "heads": 8, "kv_heads": 1}),
    "qwen2-f32-shards": Case(SOME_LEVELS, {"dtype": "f32", "layers": 3, "tied": False, "shards": 2}),
    "qwen2-f16-untied-288": Case(QUANTIZED, {"dtype": "f16", "tied": False, "ffn": 288, "layers": 5}),
    "qwen2-norms-f32": Case((*QUANTIZED, "BF16"), {"norm_dtype": "f32", "layers": 6}),
    "qwen2-full-heads": Case(QUANTIZED, {"heads": 8, "kv_heads": 8, "layers": 8}),
    "qwen2-no-gap": Case(("Q8_0",), {"vocab_gap": 0, **SMALL}),
    "qwen2-head-dim-in-config": Case(("Q8_0",), {"head_dim": 64, **SMALL}),
    "qwen2-same-lm-head": Case(("Q4_K_M",), {"lm_head": "same", **SMALL}),
    "qwen2-yarn-new": Case(("BF16",), {"scaling": {**YARN, "rope_type": "yarn"}, "rope": "new", **SMALL}),
    "qwen2-yarn-spelt-out": Case(
        ("BF16",),
        {
            "scaling": {**YARN, "beta_fast": 32.0, "beta_slow": 1.0, "attention_factor": 0.1 * math.log(4.0) + 1},
            **SMALL,
        },
    ),
    "qwen2-yarn-unread-keys": Case(
        ("BF16",), {"scaling": {**YARN, "attn_factor": 2.0, "extrapolation_factor": 0.5, "truncate": True}, **SMALL}
    ),
    "qwen2-defaults": Case(
        ("BF16",),
        {"tied": False, "without": ("tie_word_embeddings", "rope_theta", "rms_norm_eps", "hidden_act")} | SMALL,
    ),
    "qwen2-eos-list": Case(
        ("BF16",), {"config": {"eos_token_id": [vocabulary.token_id("qwen2", "<|im_end|>")]}, **SMALL}
    ),
    "qwen2-eos-object": EditedCase(
        ("BF16",), SMALL, edit=tokenizer_config(eos_token={"__type": "AddedToken", "content": "<|endoftext|>"})
    ),
    "qwen2-unk-and-bos": EditedCase(
        ("BF16",), SMALL, edit=tokenizer_config(unk_token="<|endoftext|>", bos_token="<|im_start|>")
    ),
    "qwen2-no-post-processor": EditedCase(("BF16",), SMALL, edit=tokenizer_json(post_processor=None)),
    "qwen2-post-processor": EditedCase(("BF16",), SMALL, edit=with_template_post_processor),
    "qwen2-old-buffers": EditedCase(("BF16", "Q4_0"), {"shards": 2, **SMALL}, edit=with_old_buffers),
    "qwen2-more-templates": EditedCase(("BF16",), {"template": "file", **SMALL}, edit=with_more_templates),
    "qwen2-no-generation-config": EditedCase(("BF16",), SMALL, edit=without_generation_config),
    "qwen2-all-sampling": EditedCase(
        ("BF16", "Q8_0"),
        SMALL,
        edit=sampling({"top_k": 40, "top_p": 1.0, "min_p": 0.05, "temperature": 1, "penalty_repeat": 1.1}),
    ),
    "glm4-f32": Case(QUANTIZED, {"family": "glm4", "dtype": "f32", "tied": False, "layers": 3}),
    "glm4-f16-shards": Case(
        (*QUANTIZED, "F16"), {"family": "glm4", "dtype": "f16", "tied": False, "shards": 4, "layers": 5}
    ),
    "glm4-eight-heads": Case(QUANTIZED, {"family": "glm4", "heads": 16, "kv_heads": 2, "layers": 6}),
    "glm4-odd-rows": Case(QUANTIZED, {"family": "glm4", "ffn": 336, "hidden": 240, "layers": 3}),
    "glm4-yarn": Case(("BF16",), {"family": "glm4", "scaling": YARN, **SMALL}),
    "glm4-rotates-whole-heads": Case(("BF16",), {"family": "glm4", "config": {"partial_rotary_factor": 1.0}, **SMALL}),
    "glm4-defaults": Case(
        ("BF16",),
        {"family": "glm4", "tied": False, "without": ("partial_rotary_factor", "rope_theta", "rms_norm_eps")}
        | {"template": "file", **SMALL},
    ),
    "glm4-linear": Case(
        ("BF16",), {"family": "glm4", "rope": "new", "scaling": {"rope_type": "linear", "factor": 2.0}, **SMALL}
    ),
    "glm4-no-eos": EditedCase(("BF16",), {"family": "glm4", **SMALL}, edit=tokenizer_config(eos_token=None)),
}

# Every family at every level, as it is published...
WHAT_DIFFERS: dict[str, dict[str, Any]] = {
    "qwen": {"corrected": QWEN_LENGTH},
    "qwen-first": {"corrected": QWEN_LENGTH},
    "chatglm3": {"options": SENTENCEPIECE, "corrected": CHATGLM3_WORDS},
    "chatglm4": {"corrected": TIKTOKEN_WORDS},
    "glm": {"options": {"config": GLM_THETA}, "corrected": GLM_CORRECTED},
    "glm-edge": {
        "options": {"config": GLM_THETA},
        "corrected": {key: GLM_CORRECTED[key] for key in ("chatglm.context_length", "chatglm.rope.freq_base")},
    },
    # llama.cpp's converter stops where the layer that predicts further tokens is missing
    "qwen35-text": {"arguments": ("--no-mtp",)},
    "qwen35moe-text": {"arguments": ("--no-mtp",)},
}
EVERY_LEVEL: dict[str, Case] = {
    f"{family}-every-level": Case(
        tuple(LEVELS), **{**special, "options": {"family": family, **special.get("options", {})}}
    )
    for family in FAMILIES
    for special in [WHAT_DIFFERS.get(family, {})]
}

# ... and the shapes that make a difference.
SHAPES: dict[str, Case] = {
    "qwen3-sixty-four": Case(QUANTIZED, {"family": "qwen3", "layers": 9, "head_dim": 128, "shards": 3}),
    "qwen3moe-eight-experts": Case(QUANTIZED, {"family": "qwen3moe", "experts": 8, "layers": 9, "moe_ffn": 96}),
    "qwen3moe-fused": Case(("BF16", "Q4_K_M"), {"family": "qwen3moe", "experts_layout": "fused", "layers": 2}),
    "qwen2moe-f32-shards": Case(("F32", "BF16", "Q4_K_M"), {"family": "qwen2moe", "dtype": "f32", "shards": 5}),
    "qwen3next-no-mtp": Case(("BF16", "Q4_K_M"), {"family": "qwen3next", "nextn": 0}, arguments=("--no-mtp",)),
    "qwen3next-equal-heads": Case(("BF16", "Q4_K_M"), {"family": "qwen3next", "linear_value_heads": 2}),
    "qwen35-equal-heads": Case(("BF16", "Q4_K_M"), {"family": "qwen35", "linear_value_heads": 2}),
    "qwen35-four-to-one": Case(("BF16", "Q4_K_M"), {"family": "qwen35", "linear_value_heads": 8, "dtype": "f32"}),
    "qwen35-seven-layers": Case(("BF16", "Q4_K_M"), {"family": "qwen35", "layers": 7, "shards": 3}),
    "qwen35moe-mtp-each": Case(("BF16", "Q4_K_M"), {"family": "qwen35moe", "mtp_layout": "each"}),
    "glm4moe-norm-no-bias": Case(
        ("BF16", "Q4_K_M"), {"family": "glm4moe", "qk_norm": False, "attention_bias": False, "moe_ffn": 96}
    ),
    "glm4moe-no-mtp": Case(
        ("BF16", "Q4_K_M"),
        {"family": "glm4moe", "nextn": 0, "dense_layers": 2, "config": {"num_nextn_predict_layers": 0}},
    ),
    "glm4moelite-no-mtp": Case(
        ("BF16", "Q4_K_M"), {"family": "glm4moelite", "nextn": 0, "config": {"num_nextn_predict_layers": 0}}
    ),
}

BYTE_CASES = {**CASES, **ORACLE_ONLY, **EVERY_LEVEL, **SHAPES}
