"""ChatGLM3-6B and glm-4-9b-chat (`ChatGLMModel`) in plain torch: their repositories' code never runs.

The equations are those of the GLM-4 report (arXiv:2406.12793, section 2): RMSNorm before attention and before the
feed-forward network, SwiGLU, a bias on query, key and value only, rotary positions, groups of queries that share
keys and values. What it leaves open: half of each head is rotated, neighbours being a pair, with base
10000 * rope_ratio; the gate's rows come before the others. apply_query_key_layer_scaling divides by the layer's number
and multiplies by it again: nothing remains of it.
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


def logits(checkpoint: Path, tokens: Sequence[int]) -> np.ndarray:
    """float32 [tokens, vocabulary]."""
    config = layers.config(checkpoint)
    weights = {name.removeprefix("transformer."): w for name, w in layers.tensors(checkpoint).items()}
    with torch.inference_mode():
        x = weights["embedding.word_embeddings.weight"][list(tokens)]
        for i in range(config["num_layers"]):
            x = block(x, layers.under(weights, f"encoder.layers.{i}."), config)
        x = layers.rms_norm(x, weights["encoder.final_layernorm.weight"], config["layernorm_epsilon"])
        return linear(x, weights["output_layer.weight"]).numpy()


def block(x: Tensor, w: Mapping[str, Tensor], config: Mapping[str, Any]) -> Tensor:
    """x [positions, hidden] -> the same: x + attention(norm(x)), then that + mlp(norm(that))."""
    eps = config["layernorm_epsilon"]
    x = x + attention(layers.rms_norm(x, w["input_layernorm.weight"], eps), w, config)
    return x + mlp(layers.rms_norm(x, w["post_attention_layernorm.weight"], eps), w)


def attention(x: Tensor, w: Mapping[str, Tensor], config: Mapping[str, Any]) -> Tensor:
    """One product holds all queries, then the keys of all groups, then their values."""
    heads, groups, size = (config[key] for key in ("num_attention_heads", "multi_query_group_num", "kv_channels"))
    together = linear(x, w["self_attention.query_key_value.weight"], w["self_attention.query_key_value.bias"])
    parts = together.split([heads * size, groups * size, groups * size], dim=-1)
    q, k, v = (layers.split_heads(part, n) for part, n in zip(parts, (heads, groups, groups), strict=True))
    base = 10000 * config.get("rope_ratio", 1)
    q, k = (layers.rotate_neighbours(part, size // 2, base) for part in (q, k))
    return linear(layers.causal_attention(q, k, v), w["self_attention.dense.weight"])


def mlp(x: Tensor, w: Mapping[str, Tensor]) -> Tensor:
    """down(silu(gate(x)) * up(x)), gate and up in one matrix."""
    gate, up = linear(x, w["mlp.dense_h_to_4h.weight"]).chunk(2, dim=-1)
    return linear(layers.silu(gate) * up, w["mlp.dense_4h_to_h.weight"])
