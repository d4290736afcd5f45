"""Qwen-7B (`QWenLMHeadModel`) in plain torch: transformers has no class for it, and its repository's code never runs.

The equations are those of the Qwen report (arXiv:2309.16609, section 2.3): LLaMA's layers with a bias on query,
key and value. Two switches of its config, use_dynamic_ntk and use_logn_attn, only act on texts longer than
seq_length; those are not for this reference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import linear

from tests.oracle import reference_layers as layers

# Key of the last revision -> of the first one
FIRST_NAMES = {"num_attention_heads": "n_head", "num_hidden_layers": "n_layer"}


def logits(checkpoint: Path, tokens: Sequence[int]) -> np.ndarray:
    """float32 [tokens, vocabulary]."""
    config = layers.config(checkpoint)
    config |= {new: config[old] for new, old in FIRST_NAMES.items() if old in config}
    if len(tokens) > config["seq_length"]:
        raise ValueError(f"{len(tokens)} tokens: beyond seq_length, {config['seq_length']}, there are other equations")
    weights = layers.tensors(checkpoint)
    with torch.inference_mode():
        x = weights["transformer.wte.weight"][list(tokens)]
        for i in range(config["num_hidden_layers"]):
            x = block(x, layers.under(weights, f"transformer.h.{i}."), config)
        x = layers.rms_norm(x, weights["transformer.ln_f.weight"], config["layer_norm_epsilon"])
        return linear(x, weights["lm_head.weight"]).numpy()


def block(x: Tensor, w: Mapping[str, Tensor], config: Mapping[str, Any]) -> Tensor:
    """x [positions, hidden] -> the same: x + attention(norm(x)), then that + mlp(norm(that))."""
    eps = config["layer_norm_epsilon"]
    x = x + attention(layers.rms_norm(x, w["ln_1.weight"], eps), w, config)
    return x + mlp(layers.rms_norm(x, w["ln_2.weight"], eps), w)


def attention(x: Tensor, w: Mapping[str, Tensor], config: Mapping[str, Any]) -> Tensor:
    """Query, key and value are the three thirds of one product; the first rotary_pct of each head is rotated."""
    together = linear(x, w["attn.c_attn.weight"], w["attn.c_attn.bias"])
    q, k, v = (layers.split_heads(part, config["num_attention_heads"]) for part in together.chunk(3, dim=-1))
    dims = int(q.shape[-1] * config["rotary_pct"])
    q, k = (layers.rotate_halves(part, dims, config["rotary_emb_base"]) for part in (q, k))
    return linear(layers.causal_attention(q, k, v), w["attn.c_proj.weight"])


def mlp(x: Tensor, w: Mapping[str, Tensor]) -> Tensor:
    """c_proj(w1(x) * silu(w2(x)))."""
    return linear(linear(x, w["mlp.w1.weight"]) * layers.silu(linear(x, w["mlp.w2.weight"])), w["mlp.c_proj.weight"])
