"""Weights that are the same on every machine: a fixed stream of integers, scaled by powers of two.

splitmix64 with the tensor's name as the seed; four 16-bit parts of each output are added and centred, an
integer of 18 bits with a bell-shaped distribution; it is scaled by a power of two (exact in float32) and cut to
the wanted dtype by bit operations. No floating-point rounding takes part. Two corners that quantizers treat in a
way of their own are put in: a row of zeros, and rows shrunk by powers of two.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

DTYPES = {"bf16": "BF16", "f16": "F16", "f32": "F32"}
TORCH_DTYPES = {"bf16": "bfloat16", "f16": "float16", "f32": "float32"}

NORMS = ("norm.weight", "ln_1.weight", "ln_2.weight", "ln_f.weight", "norm_embedding.weight", "norm_hidden.weight")

# End of the name -> (factor of the spread, middle), where the common ones would leave the tensor without effect:
# a router that decides, a convolution that lets its input through, states that last for some tokens.
OTHERS = {
    "mlp.gate.weight": (4, 0),
    "e_score_correction_bias": (8, 0),
    "conv1d.weight": (8, 0),
    "A_log": (16, 0),
    "dt_bias": (8, -2),
}


@dataclass(frozen=True)
class Stored:
    """A tensor as safetensors keeps it: the dtype's name there, and an array whose bytes are the data."""

    dtype: str
    data: np.ndarray


def splitmix64(seed: int, count: int) -> np.ndarray:
    """The first `count` outputs of splitmix64, as uint64."""
    z = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def weights(name: str, shape: Sequence[int], dtype: str, seed: int = 1, *, norm_middle: int = 1) -> Stored:
    """Weights of one tensor: norms near `norm_middle`, nearly all others near 0 with a spread of about 0.04."""
    count = int(np.prod(shape))
    stream = splitmix64(seed << 32 | zlib.crc32(name.encode()), count)
    parts = stream.astype("<u8").view("<u2").reshape(count, 4)
    bell = parts.sum(axis=1, dtype=np.int32) - 2 * 65535
    values = (bell.astype(np.float32) * np.float32(2.0**-20)).reshape(shape)
    factor, middle = spread(name, norm_middle)
    values = values * np.float32(factor) + np.float32(middle)  # 18 bits below 2: still exact
    if len(shape) == 2 and shape[0] > 7 and "layers.1." in name and factor == 1:
        values[3] = 0
        for row in range(7, shape[0], 8):
            values[row] = np.ldexp(values[row], -(row // 8 % 16))
    return cut(values, dtype)


def spread(name: str, norm_middle: int) -> tuple[int, int]:
    """How the tensor's weights differ from the common ones: factor of the spread, and middle."""
    if name.endswith(NORMS):
        return 4, norm_middle
    return next((found for end, found in OTHERS.items() if name.endswith(end)), (1, 0))


def cut(values: np.ndarray, dtype: str) -> Stored:
    """float32 values, low bits cut away, as `dtype` stores them."""
    bits = np.ascontiguousarray(values, dtype="<f4").view("<u4")
    if dtype == "bf16":
        return Stored("BF16", (bits >> np.uint32(16)).astype("<u2"))
    if dtype == "f16":
        return Stored("F16", (bits & np.uint32(0xFFFFE000)).view("<f4").astype("<f2"))
    return Stored("F32", bits.view("<f4"))


def fused(tensors: Mapping[str, Stored]) -> dict[str, Stored]:
    """The same experts, stacked: [experts, 2 moe_ffn, hidden] (gate rows, then up) and [experts, hidden, moe_ffn]."""
    found: dict[str, list[Stored]] = {}  # name of the stack -> its experts' matrices, in order
    out: dict[str, Stored] = {}
    for name, stored in tensors.items():
        if match := re.fullmatch(r"(.+\.experts)\.(\d+)\.(gate|up|down)_proj\.weight", name):
            found.setdefault(f"{match[1]}.{match[3]}", []).append(stored)
        else:
            out[name] = stored
    for stack in [name.removesuffix(".down") for name in found if name.endswith(".down")]:
        gates, ups, downs = (found[f"{stack}.{kind}"] for kind in ("gate", "up", "down"))
        both = [np.concatenate([gate.data, up.data]) for gate, up in zip(gates, ups, strict=True)]
        out[f"{stack}.gate_up_proj"] = Stored(gates[0].dtype, np.stack(both))
        out[f"{stack}.down_proj"] = Stored(downs[0].dtype, np.stack([down.data for down in downs]))
    return out
