"""What the reference models are made of, in plain torch and float32. One sequence, from its first token on."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor


def config(checkpoint: Path) -> dict[str, Any]:
    return json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))


def tensors(checkpoint: Path) -> dict[str, Tensor]:
    """All tensors of all shards, in float32."""
    files = sorted(checkpoint.glob("*.safetensors"))
    return {name: tensor.float() for file in files for name, tensor in load_file(file).items()}


def under(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin so, without the beginning."""
    return {name.removeprefix(prefix): w for name, w in weights.items() if name.startswith(prefix)}


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight, over the last axis (Zhang and Sennrich, arXiv:1910.07467)."""
    return x / torch.sqrt((x * x).mean(dim=-1, keepdim=True) + eps) * weight


def angles(positions: int, dims: int, base: float) -> Tensor:
    """[positions, dims / 2]: pair i of position p turns by p * base^(-2i / dims) (RoPE, arXiv:2104.09864)."""
    frequencies = base ** -(torch.arange(0, dims, 2) / dims)
    return torch.arange(positions)[:, None] * frequencies


def rotate(first: Tensor, second: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    """Both members of all pairs, [heads, positions, pairs], turned by their angles."""
    return first * angle.cos() - second * angle.sin(), second * angle.cos() + first * angle.sin()


def rotate_halves(x: Tensor, dims: int, base: float) -> Tensor:
    """x [heads, positions, head_dim]: of the first `dims`, i and i + dims / 2 are a pair; the rest stays."""
    first, second = rotate(x[..., : dims // 2], x[..., dims // 2 : dims], angles(x.shape[-2], dims, base))
    return torch.cat([first, second, x[..., dims:]], dim=-1)


def rotate_neighbours(x: Tensor, dims: int, base: float) -> Tensor:
    """x [heads, positions, head_dim]: of the first `dims`, 2i and 2i + 1 are a pair; the rest stays."""
    first, second = rotate(x[..., 0:dims:2], x[..., 1:dims:2], angles(x.shape[-2], dims, base))
    return torch.cat([torch.stack([first, second], dim=-1).flatten(-2), x[..., dims:]], dim=-1)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[positions, heads * head_dim] -> [heads, positions, head_dim]."""
    return x.unflatten(-1, (heads, -1)).transpose(0, 1)


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Heads [heads, positions, head_dim], k and v of as many or fewer heads, each shared by heads that lie together.

    Returns [positions, heads * head_dim]: softmax(q k^T / sqrt(head_dim)) v, no position seeing a later one.
    """
    k, v = (x.repeat_interleave(len(q) // len(x), dim=0) for x in (k, v))
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    out = scores.masked_fill(later, -math.inf).softmax(dim=-1) @ v
    return out.transpose(0, 1).flatten(-2)


def silu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)
