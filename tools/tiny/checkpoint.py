"""Write a tiny checkpoint folder: tokenizer, configs and weights, laid out as on the hubs."""

# pyright: reportMissingImports=false
# torch and its kin are not among the project's dependencies.

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import torch
from families import BPE_TOKENS, Family, Json
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}


def train_bpe(family: Family, texts: Iterable[str]) -> tuple[dict[str, int], list[list[str]]]:
    """A byte-level BPE with all 256 byte tokens: vocabulary and merges."""
    tokenizer = Tokenizer(models.BPE())
    if family.normalizer:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(family.split), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=BPE_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    if len(model["vocab"]) != BPE_TOKENS:
        raise ValueError(f"the corpus gave {len(model['vocab'])} tokens, not {BPE_TOKENS}")
    return model["vocab"], model["merges"]


def tokenizer_json(family: Family, vocab: dict[str, int], merges: list[list[str]]) -> Json:
    """The content of tokenizer.json: real pre-tokenizer and normalizer, special tokens at the end."""
    split = {"type": "Split", "pattern": {"Regex": family.split}, "behavior": "Isolated", "invert": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [added_token(BPE_TOKENS + i, text) for i, text in enumerate(family.specials)],
        "normalizer": family.normalizer,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, BYTE_LEVEL]},
        "post_processor": BYTE_LEVEL,
        "decoder": BYTE_LEVEL,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": family.ignore_merges,
            "vocab": vocab,
            "merges": [" ".join(pair) for pair in merges],
        },
    }


def added_token(token_id: int, text: str) -> Json:
    """One entry of `added_tokens`."""
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": token_id, "content": text, **flags, "special": True}


def write_files(family: Family, texts: Iterable[str], out: Path) -> None:
    """Write every file but the weights."""
    tokenizer = tokenizer_json(family, *train_bpe(family, texts))
    ids = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    decoder = {
        str(token["id"]): {key: value for key, value in token.items() if key != "id"}
        for token in tokenizer["added_tokens"]
    }
    files = {
        "config.json": family.config(ids),
        "generation_config.json": family.generation_config(ids),
        "tokenizer.json": tokenizer,
        "tokenizer_config.json": family.tokenizer_config
        | {"added_tokens_decoder": decoder, "chat_template": family.chat_template},
    }
    out.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        text = json.dumps(content, ensure_ascii=False, indent=1 if name == "tokenizer.json" else 2)
        (out / name).write_text(text + "\n", encoding="utf-8", newline="\n")


def new_model(out: Path) -> PreTrainedModel:
    """A model with fresh float32 weights, of the shape config.json says."""
    return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(out), dtype=torch.float32)


def save_weights(model: PreTrainedModel, out: Path) -> None:
    """Write model.safetensors in bf16; a tied output matrix is left out, as `save_pretrained` does."""
    tied = model.config.tie_word_embeddings
    tensors = {
        name: tensor.detach().to(torch.bfloat16).contiguous()
        for name, tensor in model.state_dict().items()
        if not (tied and name == "lm_head.weight")
    }
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    (out / "model.safetensors").chmod(0o644)  # save_file lets only the owner read
