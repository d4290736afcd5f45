"""Small checkpoints, the same on every machine: weights are a fixed stream of integers.

`build(folder, family="qwen2", dtype="bf16", ...)` writes what a model repository holds: config.json,
generation_config.json, tokenizer files and safetensors, one file or shards. Only numpy is needed.

Weights: splitmix64 with the tensor's name as the seed; four 16-bit parts of each output are added and
centred, an integer of 18 bits with a bell-shaped distribution; it is scaled by a power of two (exact in
float32) and cut to the wanted dtype by bit operations. No floating-point rounding takes part. Two corners
that quantizers treat in a way of their own are put in: a row of zeros, and rows shrunk by powers of two.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests import vocabulary

DTYPES = {"bf16": "BF16", "f16": "F16", "f32": "F32"}
TORCH_DTYPES = {"bf16": "bfloat16", "f16": "float16", "f32": "float32"}


@dataclass(frozen=True)
class Stored:
    """A tensor as safetensors keeps it: the dtype's name there, and an array whose bytes are the data."""

    dtype: str
    data: np.ndarray


def build(
    folder: Path,
    *,
    family: str = "qwen2",
    dtype: str = "bf16",
    norm_dtype: str | None = None,
    tied: bool = True,
    lm_head: str | None = None,
    shards: int = 1,
    layers: int = 4,
    hidden: int = 256,
    ffn: int = 512,
    heads: int = 4,
    kv_heads: int = 2,
    head_dim: int | None = None,
    attention_bias: bool = True,
    rope: str = "old",
    scaling: Mapping[str, Any] | None = None,
    vocab_gap: int = 24,
    merge_pairs: bool = False,
    template: str = "config",
    config: Mapping[str, Any] | None = None,
    without: Iterable[str] = (),
    seed: int = 1,
) -> Path:
    """Write a checkpoint to `folder` (made if need be) and return it.

    family: "qwen2" or "glm4".
    dtype, norm_dtype: "bf16", "f16" or "f32"; norms and biases may have their own.
    tied, lm_head: `tie_word_embeddings`; lm_head "same" or "other" writes the tensor although it is tied.
    head_dim: written to the config when given; glm4 always has one (hidden / heads by default).
    attention_bias: glm4 only; qwen2 always has q, k, v biases.
    rope: "old" (top-level rope_theta, rope_scaling) or "new" (rope_parameters, as transformers 5 saves it).
    scaling: entries for rope_scaling / rope_parameters, such as type, factor.
    vocab_gap: ids without a token at the end of the vocabulary.
    template: where the chat template lies: "config", "file" (chat_template.jinja), "named" (a list), "none".
    config, without: keys of config.json to set and to leave out, last of all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    vocab = vocabulary.size(family) + vocab_gap
    settings = model_config(family, dtype, rope=rope, scaling=scaling)
    settings |= {
        "hidden_size": hidden,
        "intermediate_size": ffn,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "tie_word_embeddings": tied,
        "vocab_size": vocab,
    }
    if family == "glm4":
        settings["attention_bias"] = attention_bias
        head_dim = head_dim or hidden // heads
    if head_dim:
        settings["head_dim"] = head_dim
    settings |= config or {}
    write_json(folder / "config.json", {k: v for k, v in settings.items() if k not in set(without)})
    write_json(folder / "generation_config.json", generation_config(family))
    write_tokenizer(folder, family, merge_pairs=merge_pairs, template=template)

    shapes = tensor_shapes(family, layers, hidden, ffn, heads, kv_heads, head_dim or hidden // heads, vocab)
    if family == "glm4" and not attention_bias:
        shapes = {name: shape for name, shape in shapes.items() if not name.endswith(".bias")}
    if tied and lm_head is None:
        del shapes["lm_head.weight"]
    tensors = {
        name: weights(name, shape, (norm_dtype or dtype) if len(shape) == 1 else dtype, seed)
        for name, shape in shapes.items()
    }
    if lm_head == "same":
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    write_shards(folder, tensors, shards)
    return folder


def model_config(
    family: str, dtype: str, *, rope: str = "old", scaling: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The keys of config.json that do not speak of sizes."""
    end = [vocabulary.token_id(family, text) for text in vocabulary.EOS[family]]
    common: dict[str, Any] = {
        "attention_dropout": 0.0,
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "use_cache": True,
    }
    if family == "qwen2":
        theta, partial = 1000000.0, {}
        common |= {
            "architectures": ["Qwen2ForCausalLM"],
            "model_type": "qwen2",
            "bos_token_id": vocabulary.token_id(family, "<|endoftext|>"),
            "eos_token_id": end[0],
            "max_position_embeddings": 4096,
            "max_window_layers": 2,
            "rms_norm_eps": 1e-06,
            "sliding_window": 4096,
            "use_sliding_window": False,
        }
    else:
        theta, partial = 10000.0, {"partial_rotary_factor": 0.5}
        common |= {
            "architectures": ["Glm4ForCausalLM"],
            "model_type": "glm4",
            "eos_token_id": end,
            "pad_token_id": end[0],
            "max_position_embeddings": 2048,
            "rms_norm_eps": 1e-05,
        }
    if rope == "new":
        parameters = {"rope_theta": theta, "rope_type": "default"} | partial | dict(scaling or {})
        return common | {"dtype": TORCH_DTYPES[dtype], "rope_parameters": parameters}
    if scaling:
        common["rope_scaling"] = dict(scaling)
    return common | {"torch_dtype": TORCH_DTYPES[dtype], "rope_theta": theta} | partial


def generation_config(family: str) -> dict[str, Any]:
    end = [vocabulary.token_id(family, text) for text in vocabulary.EOS[family]]
    sampling = {"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.05}
    return {"eos_token_id": end, "pad_token_id": vocabulary.token_id(family, "<|endoftext|>"), **sampling}


def write_tokenizer(folder: Path, family: str, *, merge_pairs: bool = False, template: str = "config") -> None:
    text = vocabulary.CHAT_TEMPLATES[family]
    settings = vocabulary.tokenizer_config(family)
    if template == "config":
        settings["chat_template"] = text
    elif template == "named":
        tools = text + "{# with tools #}"
        settings["chat_template"] = [
            {"name": "default", "template": text},
            {"name": "tool_use", "template": tools},
        ]
    elif template == "file":
        (folder / "chat_template.jinja").write_text(text, encoding="utf-8", newline="\n")
    write_json(folder / "tokenizer_config.json", settings)
    write_json(folder / "tokenizer.json", vocabulary.tokenizer_json(family, merge_pairs=merge_pairs))


def tensor_shapes(
    family: str, layers: int, hidden: int, ffn: int, heads: int, kv_heads: int, head_dim: int, vocab: int
) -> dict[str, tuple[int, ...]]:
    """Names and shapes (rows = outputs first) of all tensors, lm_head included."""
    q, kv = heads * head_dim, kv_heads * head_dim
    layer: dict[str, tuple[int, ...]] = {
        "self_attn.q_proj.weight": (q, hidden),
        "self_attn.q_proj.bias": (q,),
        "self_attn.k_proj.weight": (kv, hidden),
        "self_attn.k_proj.bias": (kv,),
        "self_attn.v_proj.weight": (kv, hidden),
        "self_attn.v_proj.bias": (kv,),
        "self_attn.o_proj.weight": (hidden, q),
        "mlp.down_proj.weight": (hidden, ffn),
        "input_layernorm.weight": (hidden,),
        "post_attention_layernorm.weight": (hidden,),
    }
    if family == "qwen2":
        layer |= {"mlp.gate_proj.weight": (ffn, hidden), "mlp.up_proj.weight": (ffn, hidden)}
    else:
        layer |= {
            "mlp.gate_up_proj.weight": (2 * ffn, hidden),
            "post_self_attn_layernorm.weight": (hidden,),
            "post_mlp_layernorm.weight": (hidden,),
        }
    return {
        "model.embed_tokens.weight": (vocab, hidden),
        **{f"model.layers.{i}.{name}": shape for i in range(layers) for name, shape in layer.items()},
        "model.norm.weight": (hidden,),
        "lm_head.weight": (vocab, hidden),
    }


def splitmix64(seed: int, count: int) -> np.ndarray:
    """The first `count` outputs of splitmix64, as uint64."""
    z = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def weights(name: str, shape: Sequence[int], dtype: str, seed: int = 1) -> Stored:
    """Weights of one tensor: norms near 1, biases and matrices near 0 with a spread of about 0.04."""
    count = int(np.prod(shape))
    stream = splitmix64(seed << 32 | zlib.crc32(name.encode()), count)
    parts = stream.astype("<u8").view("<u2").reshape(count, 4)
    bell = parts.sum(axis=1, dtype=np.int32) - 2 * 65535
    values = (bell.astype(np.float32) * np.float32(2.0**-20)).reshape(shape)
    if name.endswith("norm.weight"):
        values = values * np.float32(4) + np.float32(1)  # 18 bits below 2: still exact
    elif len(shape) == 2 and "layers.1." in name:
        values[3] = 0
        for row in range(7, shape[0], 8):
            values[row] = np.ldexp(values[row], -(row // 8 % 16))
    return cut(values, dtype)


def cut(values: np.ndarray, dtype: str) -> Stored:
    """float32 values, low bits cut away, as `dtype` stores them."""
    bits = np.ascontiguousarray(values, dtype="<f4").view("<u4")
    if dtype == "bf16":
        return Stored("BF16", (bits >> np.uint32(16)).astype("<u2"))
    if dtype == "f16":
        return Stored("F16", (bits & np.uint32(0xFFFFE000)).view("<f4").astype("<f2"))
    return Stored("F32", bits.view("<f4"))


def write_shards(folder: Path, tensors: Mapping[str, Stored], shards: int) -> None:
    """`model.safetensors`, or `shards` files of about equally many tensors with an index."""
    if shards == 1:
        write_safetensors(folder / "model.safetensors", tensors)
        return
    names = list(tensors)
    files = [f"model-{i + 1:05}-of-{shards:05}.safetensors" for i in range(shards)]
    where = {name: files[i * shards // len(names)] for i, name in enumerate(names)}
    for file in files:
        write_safetensors(folder / file, {name: tensors[name] for name in names if where[name] == file})
    total = sum(stored.data.nbytes for stored in tensors.values())
    write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": where})


def write_safetensors(path: Path, tensors: Mapping[str, Stored]) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, stored in tensors.items():
        end = offset + stored.data.nbytes
        header[name] = {
            "dtype": stored.dtype,
            "shape": list(stored.data.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    with path.open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        for stored in tensors.values():
            file.write(stored.data.tobytes())


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8", newline="\n")


def edit_json(path: Path, **changes: Any) -> None:
    """Set keys of a JSON file."""
    write_json(path, read_json(path) | changes)


def split_safetensors(folder: Path) -> tuple[int, int]:
    """Bytes of headers, and of tensor data, in all shards of the folder."""
    headers, total = 0, 0
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            headers += 8 + int.from_bytes(file.read(8), "little")
        total += path.stat().st_size
    return headers, total - headers
