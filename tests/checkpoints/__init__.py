"""Small checkpoints, the same on every machine: what a model repository of each family holds.

`build(folder, family="qwen2", dtype="bf16", ...)` writes config.json, generation_config.json, tokenizer files and
safetensors, one file or shards. The families are data in families/; only numpy is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tests import vocabulary
from tests.checkpoints.families import FAMILIES
from tests.checkpoints.family import Family, Sizes
from tests.checkpoints.files import (
    edit_json,
    read_json,
    split_safetensors,
    write_json,
    write_safetensors,
    write_shards,
)
from tests.checkpoints.weights import TORCH_DTYPES, Stored, cut, fused, splitmix64, weights

__all__ = [
    "FAMILIES",
    "Stored",
    "build",
    "cut",
    "edit_json",
    "model_config",
    "read_json",
    "split_safetensors",
    "splitmix64",
    "tensor_shapes",
    "weights",
    "write_json",
    "write_safetensors",
]


def build(
    folder: Path,
    *,
    family: str = "qwen2",
    dtype: str = "bf16",
    norm_dtype: str | None = None,
    lm_head: str | None = None,
    shards: int = 1,
    experts_layout: str | None = None,
    mtp_layout: str | None = None,
    rope: str | None = None,
    scaling: Mapping[str, Any] | None = None,
    vocab: int | None = None,
    vocab_gap: int = 24,
    merge_pairs: bool = False,
    template: str = "config",
    tokenizer: Callable[[Path, str], int] | None = None,
    config: Mapping[str, Any] | None = None,
    without: Iterable[str] = (),
    seed: int = 1,
    **sizes: Any,
) -> Path:
    """Write a checkpoint to `folder` (made if need be) and return it.

    family: a name of FAMILIES.
    dtype, norm_dtype: "bf16", "f16" or "f32"; norms and biases may have their own.
    lm_head: "same" or "other" writes the tensor although it is tied.
    experts_layout, mtp_layout: how experts lie in the file, one by one ("each") or stacked ("fused"), in the
        layers and in the multi-token prediction layers; otherwise as the family publishes them.
    rope: "old" (top-level rope_theta, rope_scaling) or "new" (rope_parameters, as transformers 5 saves it).
    scaling: entries for rope_scaling / rope_parameters, such as type, factor.
    vocab, vocab_gap: size of the vocabulary, or how many ids without a token end it.
    template: where the chat template lies: "config", "file" (chat_template.jinja), "named" (a list), "none".
    tokenizer: called with the folder and the vocabulary's name in tests.vocabulary.SPECIALS, to write the file that
        holds the vocabulary in place of the usual one; returns how many ids come before the special tokens.
        ChatGLM3 has none without it.
    config, without: keys of config.json (if nested, of its text part) to set and to leave out, last of all.
    sizes: fields of tests.checkpoints.family.Sizes, such as layers, hidden, tied, experts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kind = FAMILIES[family]
    start = len(vocabulary.ORDINARY)
    if tokenizer:
        start = tokenizer(folder, kind.tokens)
    elif kind.tokenizer_file:
        vocabulary.write(folder / kind.tokenizer_file, kind.tokens, merge_pairs=merge_pairs)
    write_tokenizer_config(folder, kind.tokens, template=template)

    vocab = vocab or start + len(vocabulary.SPECIALS[kind.tokens]) + vocab_gap
    size = Sizes(**{"vocab": vocab, **kind.sizes, **sizes})
    settings = model_config(kind, size, dtype, rope=rope or kind.rope_style, scaling=scaling) | dict(config or {})
    settings = {key: value for key, value in settings.items() if key not in set(without)}
    if kind.whole:
        settings = kind.whole(settings, size)
    write_json(folder / "config.json", with_ids(settings, kind.tokens, start))
    if ends := vocabulary.EOS[kind.tokens]:
        write_json(folder / "generation_config.json", with_ids(generation_config(ends), kind.tokens, start))

    tensors: dict[str, Stored] = {}
    for name, shape in kind.tensors(size).items():
        middle = 1 if name.endswith(kind.plain_norms) else kind.norm_middle
        stored_as = "f32" if name.endswith(kind.float32) else (norm_dtype or dtype) if len(shape) == 1 else dtype
        tensors[name] = weights(name, shape, stored_as, seed, norm_middle=middle)
    if size.tied and lm_head is None:
        del tensors[kind.head]
    if lm_head == "same":
        tensors[kind.head] = tensors[kind.embedding]
    write_shards(folder, laid_out(tensors, experts_layout or kind.experts, mtp_layout), shards)
    return folder


def model_config(
    kind: Family, size: Sizes, dtype: str, *, rope: str, scaling: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """config.json, or its text part, with texts for the ids of special tokens."""
    settings = dict(kind.config)
    if rope == "new":
        settings.pop("rope_scaling", None)
        parameters = {"rope_theta": None, "rope_type": "default", **kind.rope, **(scaling or {})}
        settings |= {"dtype": TORCH_DTYPES[dtype]} | ({"rope_parameters": parameters} if kind.rope else {})
    else:
        settings |= {"rope_scaling": dict(scaling)} if scaling else {}
        settings |= {"torch_dtype": TORCH_DTYPES[dtype], **kind.rope}
    return settings | {key: value for key, name in kind.size_keys.items() if (value := getattr(size, name)) is not None}


def generation_config(ends: list[str]) -> dict[str, Any]:
    sampling = {"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.05}
    return {"eos_token_id": ends, "pad_token_id": "<|endoftext|>", **sampling}


def with_ids(settings: Mapping[str, Any], tokens: str, start: int) -> dict[str, Any]:
    """The same with ids for the texts of special tokens, of which `start` is the first one's."""

    def ids(value: Any) -> Any:
        if isinstance(value, list):
            return [ids(one) for one in value]
        return vocabulary.token_id(tokens, value, start) if isinstance(value, str) else value

    return {
        key: with_ids(value, tokens, start)
        if isinstance(value, dict)
        else ids(value)
        if key.endswith("_token_id")
        else value
        for key, value in settings.items()
    }


def write_tokenizer_config(folder: Path, tokens: str, *, template: str = "config") -> None:
    text = vocabulary.CHAT_TEMPLATES[tokens]
    settings = vocabulary.tokenizer_config(tokens)
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


def tensor_shapes(family: str, **sizes: Any) -> dict[str, tuple[int, ...]]:
    """Names and shapes (rows = outputs first) of all tensors, the head included, experts one by one."""
    return FAMILIES[family].tensors(Sizes(**{**FAMILIES[family].sizes, **sizes}))


def laid_out(tensors: dict[str, Stored], layout: str, mtp_layout: str | None) -> dict[str, Stored]:
    """Experts stacked where they shall be. GLM's prediction layers are numbered as the others and go with them."""
    trunk = {name: stored for name, stored in tensors.items() if not name.startswith("mtp.")}
    prediction = {name: stored for name, stored in tensors.items() if name.startswith("mtp.")}
    return (fused(trunk) if layout == "fused" else trunk) | (
        fused(prediction) if (mtp_layout or layout) == "fused" else prediction
    )
