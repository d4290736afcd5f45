"""A very small random Qwen2 model as a GGUF that llama.cpp loads: 2 layers, width 64, 300 tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np

N_VOCAB, WIDTH, LAYERS, HEADS, KV_HEADS, FF, N_CTX = 300, 64, 2, 4, 2, 128, 512
CONTROL, NORMAL, USER_DEFINED, UNUSED = 3, 1, 4, 5
END_OF_TEXT, IM_START, IM_END, THINK, END_THINK = 261, 262, 263, 264, 265
MERGES = ["a b", "Ġ t", "h e", "Ġt he", "ä ½"]  # the last begins 你, the bytes e4 bd a0
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_alphabet() -> list[str]:
    """The printable stand-ins of the 256 bytes in byte-level BPE, by byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte if byte in plain else next(others)) for byte in range(256)]


def vocabulary() -> tuple[list[str], list[int]]:
    """Token texts and types: 256 bytes, the merges, the special tokens, then unused."""
    tokens = byte_alphabet() + [merge.replace(" ", "") for merge in MERGES]
    types = [NORMAL] * len(tokens)
    for text in ("<|endoftext|>", "<|im_start|>", "<|im_end|>"):
        tokens.append(text)
        types.append(CONTROL)
    for text in ("<think>", "</think>"):
        tokens.append(text)
        types.append(USER_DEFINED)
    while len(tokens) < N_VOCAB:
        types.append(UNUSED)
        tokens.append(f"[PAD{len(tokens)}]")
    return tokens, types


def metadata() -> dict[str, Any]:
    tokens, types = vocabulary()
    return {
        "qwen2.block_count": LAYERS,
        "qwen2.context_length": N_CTX,
        "qwen2.embedding_length": WIDTH,
        "qwen2.feed_forward_length": FF,
        "qwen2.attention.head_count": HEADS,
        "qwen2.attention.head_count_kv": KV_HEADS,
        "qwen2.attention.layer_norm_rms_epsilon": 1e-6,
        "qwen2.rope.freq_base": 10000.0,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": MERGES,
        "tokenizer.ggml.eos_token_id": IM_END,
        "tokenizer.ggml.bos_token_id": END_OF_TEXT,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": TEMPLATE,
    }


def tensors(seed: int = 1) -> dict[str, np.ndarray]:
    """Name -> float32 weights in numpy order, rows first."""
    rng = np.random.default_rng(seed)
    kv = WIDTH // HEADS * KV_HEADS

    def weight(*shape: int) -> np.ndarray:
        return rng.normal(0, 0.3, shape).astype(np.float32)

    made = {"token_embd.weight": weight(N_VOCAB, WIDTH), "output_norm.weight": np.ones(WIDTH, np.float32)}
    for i in range(LAYERS):
        made |= {
            f"blk.{i}.attn_norm.weight": np.ones(WIDTH, np.float32),
            f"blk.{i}.attn_q.weight": weight(WIDTH, WIDTH),
            f"blk.{i}.attn_q.bias": weight(WIDTH),
            f"blk.{i}.attn_k.weight": weight(kv, WIDTH),
            f"blk.{i}.attn_k.bias": weight(kv),
            f"blk.{i}.attn_v.weight": weight(kv, WIDTH),
            f"blk.{i}.attn_v.bias": weight(kv),
            f"blk.{i}.attn_output.weight": weight(WIDTH, WIDTH),
            f"blk.{i}.ffn_norm.weight": np.ones(WIDTH, np.float32),
            f"blk.{i}.ffn_gate.weight": weight(FF, WIDTH),
            f"blk.{i}.ffn_up.weight": weight(FF, WIDTH),
            f"blk.{i}.ffn_down.weight": weight(WIDTH, FF),
        }
    return made


def write(path: Path, changes: dict[str, Any] | None = None, weights: dict[str, np.ndarray] | None = None) -> Path:
    """Write the model. ``changes`` replace metadata, None removes; ``weights`` replace all tensors."""
    writer = gguf.GGUFWriter(path, "qwen2")
    for key, value in (metadata() | (changes or {})).items():
        add_value(writer, key, value)
    for name, data in (tensors() if weights is None else weights).items():
        writer.add_tensor(name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add_value(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)
