"""The checkpoints of the goldens: name -> how to build it and which levels to convert it to."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from convert.levels import LEVELS
from tests.checkpoints import build
from tests.tokenizer_files import pieces, sentencepiece_file

FLOAT_LEVELS = ("F32", "F16", "BF16")
SOME_LEVELS = (*FLOAT_LEVELS, "Q8_0", "Q4_0", "Q4_K_M", "Q2_K")
OTHER_LEVELS = tuple(level for level in LEVELS if level not in SOME_LEVELS)


@dataclass(frozen=True)
class Case:
    """`options` are those of `build`; `dtype` there also tells which float level is lossless.

    `arguments` are for llama.cpp's converter. `corrected`: key -> type and value that are right where it is wrong.
    """

    levels: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    corrected: dict[str, str] = field(default_factory=dict)

    def build(self, folder: Path) -> Path:
        return build(folder, **self.options)

    @property
    def dtype(self) -> str:
        return self.options.get("dtype", "bf16")


YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024}

# llama.cpp's converter looks for ChatGLM's own words and takes the hidden size, 1e-5 and 10000 for these.
GLM_CORRECTED = {
    "chatglm.context_length": "u32 4096",
    "chatglm.attention.layer_norm_rms_epsilon": "f32 1.56249996052793e-07",
    "chatglm.rope.freq_base": "f32 5000000.0",
}
GLM_THETA = {"rope_theta": 5000000.0}


def sentencepiece(folder: Path, family: str) -> int:
    """Writes tokenizer.model; returns how many ids come before the special tokens."""
    tokens = pieces()
    (folder / "tokenizer.model").write_bytes(sentencepiece_file(tokens))
    return len(tokens)


SENTENCEPIECE = {"tokenizer": sentencepiece}
# Whole words first, as tiktoken takes them; that nothing ends a text is the default of such vocabularies.
TIKTOKEN_WORDS = {"tokenizer.ggml.pre": 'str "glm4"', "tokenizer.ggml.add_eos_token": ""}
# Its tokens `sop` and `eop` are called <sop> and <eop>, there and in its template: llama.cpp would find the bare words
# within others, such as "people".
CHATGLM3_WORDS = {
    "tokenizer.ggml.tokens": "[str] 677 long, sha256 0d193e5e630b35ab",
    "tokenizer.chat_template": "str 134 long, sha256 71884e7f31b1d10b",
}
QWEN_LENGTH = {"qwen.context_length": "u32 2048"}  # seq_length: beyond it the model stretches its rotation

CASES = {
    "qwen2": Case(SOME_LEVELS),
    # ffn 288 is a multiple of 32 but not of 256: its rows fall back to Q5_0 and Q8_0
    "qwen2-nine-layers": Case(
        ("BF16", "Q4_0", "Q4_K_M"),
        {"layers": 9, "ffn": 288, "tied": False, "shards": 3, "rope": "new", "merge_pairs": True}
        | {"template": "file"},
    ),
    # hidden 240 and ffn 336 are not even multiples of 32: rows stay F16
    "qwen2-odd-rows": Case(("Q8_0", "Q4_0", "Q4_K_M"), {"hidden": 240, "ffn": 336, "layers": 3}),
    "qwen2-f16": Case(("F32", "F16", "Q8_0", "Q4_K_M"), {"dtype": "f16", "layers": 3}),
    "qwen2-f32": Case(("F32", "BF16", "Q4_K_M"), {"dtype": "f32", "norm_dtype": "bf16", "ffn": 256, "layers": 2}),
    "qwen2-eight-heads-one-kv": Case(("Q4_K_M", "Q2_K"), {"heads": 8, "kv_heads": 1}),
    "qwen2-own-head": Case(("Q4_K_M",), {"lm_head": "other", "shards": 2, "layers": 2}),
    "qwen2-yarn": Case(("Q8_0",), {"scaling": YARN, "template": "named", "layers": 2}),
    "qwen2-linear": Case(
        ("BF16",),
        {"scaling": {"rope_type": "linear", "factor": 2.0}, "rope": "new", "template": "none", "layers": 1},
    ),
    "glm4": Case(SOME_LEVELS, {"family": "glm4", "tied": False}),
    "glm4-nine-layers": Case(
        ("BF16", "Q4_0", "Q4_K_M"),
        {"family": "glm4", "tied": False, "layers": 9, "ffn": 288, "head_dim": 96, "rope": "new"}
        | {"attention_bias": False, "merge_pairs": True, "shards": 2},
    ),
    "glm4-tied": Case(("Q4_0", "Q4_K_M"), {"family": "glm4", "dtype": "f16", "layers": 3}),
    "qwen3": Case(OTHER_LEVELS, {"family": "qwen3", "layers": 2}),
    "qwen3moe": Case(("BF16", "Q4_K_M", "Q3_K_M"), {"family": "qwen3moe", "layers": 3, "tied": False}),
    # 96-wide experts: their rows fall back to Q5_1 and IQ4_NL
    "qwen2moe": Case(("Q5_K_S", "IQ4_XS"), {"family": "qwen2moe", "layers": 3, "moe_ffn": 96}),
    "qwen3next": Case(("BF16", "Q4_K_S"), {"family": "qwen3next"}),
    "qwen35": Case(("BF16", "Q5_K_M"), {"family": "qwen35"}),
    "qwen35moe": Case(("BF16", "Q4_K_M"), {"family": "qwen35moe", "linear_value_heads": 8, "shards": 3}),
    "qwen": Case(("BF16", "Q4_K_M"), {"family": "qwen", "layers": 2}, corrected=QWEN_LENGTH),
    "chatglm3": Case(
        ("BF16", "Q4_K_M"), {"family": "chatglm3", "layers": 2, **SENTENCEPIECE}, corrected=CHATGLM3_WORDS
    ),
    "chatglm4": Case(("BF16", "Q4_K_M"), {"family": "chatglm4", "layers": 2}, corrected=TIKTOKEN_WORDS),
    "glm": Case(("BF16", "Q4_1"), {"family": "glm", "layers": 2, "config": GLM_THETA}, corrected=GLM_CORRECTED),
    "glm4moe": Case(("BF16", "Q4_K_M"), {"family": "glm4moe", "layers": 3}),
    "glm4moelite": Case(("BF16", "Q4_K_M"), {"family": "glm4moelite", "layers": 3}),
}
