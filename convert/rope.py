"""Rotary position settings: from either generation of config.json to GGUF keys, refusing what llama.cpp ignores."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from convert.errors import CheckpointError, UnsupportedError
from convert.metadata import KV, is_integer, is_number

YARN_FIXED = {
    "beta_fast": 32,
    "beta_slow": 1,
    "truncate": True,
}  # llama.cpp loads no other value for these families

POSITIVE = ("rope_theta", "factor", "partial_rotary_factor", "attention_factor", "mscale", "mscale_all_dim")

# Source keys -> GGUF key, first one present; the converter copies them, llama.cpp's graphs here do not read them.
YARN_KEYS = (
    (("extrapolation_factor",), "yarn_ext_factor"),
    (("attention_factor", "attn_factor"), "yarn_attn_factor"),
    (("beta_fast",), "yarn_beta_fast"),
    (("beta_slow",), "yarn_beta_slow"),
)


def nested_rope(hparams: Mapping[str, Any]) -> Any:
    """The object with rotary settings; where a config has both, transformers takes the older name."""
    return hparams.get("rope_scaling") or hparams.get("rope_parameters") or {}


def rope_parameters(hparams: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of ``rope_parameters``, or of ``rope_theta`` and ``rope_scaling``, as transformers merges them.

    Raises CheckpointError for a value of the wrong type.
    """
    nested = nested_rope(hparams)
    if not isinstance(nested, dict) or any(isinstance(value, dict) for value in nested.values()):
        raise CheckpointError(f"config.json: rope settings {str(nested)[:60]} are not one flat object")
    rope = {key: value for key, value in nested.items() if value is not None}
    for key in ("rope_theta", "partial_rotary_factor"):
        if key not in rope and hparams.get(key) is not None:
            rope[key] = hparams[key]
    if hparams.get("original_max_position_embeddings") is not None:
        rope["original_max_position_embeddings"] = hparams["original_max_position_embeddings"]
    rope.setdefault("original_max_position_embeddings", hparams["max_position_embeddings"])
    rope.setdefault("rope_type", rope.get("type", "default"))
    for key in POSITIVE:
        if key in rope and (not is_number(rope[key]) or rope[key] <= 0):
            raise CheckpointError(f"config.json: {key} is {str(rope[key])[:40]!r}, not a positive number")
    original = rope["original_max_position_embeddings"]
    if not is_integer(original) or original <= 0:
        raise CheckpointError(f"config.json: original_max_position_embeddings is {str(original)[:40]!r}")
    return rope


def rope_metadata(arch: str, hparams: Mapping[str, Any], *, sections: bool = False) -> list[KV]:
    """Base frequency, context scaling, and the config's ``mrope_section`` where the family has ``sections``.

    Raises UnsupportedError for a scaling llama.cpp does not compute.
    """
    rope = rope_parameters(hparams)
    kind, scaling = rope["rope_type"], []
    if kind not in ("default", "linear", "yarn"):
        raise UnsupportedError(
            f"config.json has rope_type = {str(kind)[:40]!r}; llama.cpp computes default, linear, yarn"
        )
    if "mrope_section" in rope and not sections:
        raise UnsupportedError("config.json has mrope_section, which belongs to a vision model")
    if kind != "default":
        if rope.get("factor", 0) < 1:
            raise CheckpointError(f"config.json: rope scaling {kind} needs a factor of 1 or more")
        scaling = [
            KV(f"{arch}.rope.scaling.type", "str", kind),
            KV(f"{arch}.rope.scaling.factor", "f32", rope["factor"]),
        ]
    if kind == "yarn":
        refuse_other_yarn(rope)
        original = rope["original_max_position_embeddings"]
        scaling.append(KV(f"{arch}.rope.scaling.original_context_length", "u32", original))
        for sources, target in YARN_KEYS:
            value = next((rope[source] for source in sources if source in rope), None)
            if is_number(value):
                scaling.append(KV(f"{arch}.rope.scaling.{target}", "f32", value))
    if covering := rope_sections(hparams):
        scaling.append(KV(f"{arch}.rope.dimension_sections", "[i32]", covering))
    theta = rope.get("rope_theta")
    return [*scaling, *([] if theta is None else [KV(f"{arch}.rope.freq_base", "f32", theta)])]


def rope_sections(hparams: Mapping[str, Any]) -> list[int]:
    """How many rotated pairs follow time, height and width, padded to four; empty without ``mrope_section``.

    The pairs take turns. Text has one position for all three, but llama.cpp gives a pair that no section covers
    position 0, and the pairs repeat after the sections' sum: such sections are an UnsupportedError.
    """
    sections = rope_parameters(hparams).get("mrope_section") or []
    if not isinstance(sections, list) or len(sections) > 4 or not all(is_integer(n) and n >= 0 for n in sections):
        raise CheckpointError(f"config.json: mrope_section is {str(sections)[:40]!r}")
    padded = sections + [0] * (4 - len(sections)) if sections else []
    if padded:
        total = sum(padded)
        turns = [pair % total for pair in range(rotated(hparams) // 2)] if total else [0]
        if total > hparams["head_dim"] or not all(turn < 3 * padded[turn % 3] for turn in turns):
            raise UnsupportedError(f"config.json has mrope_section = {sections}; llama.cpp would leave pairs unrotated")
    return padded


def rotated(hparams: Mapping[str, Any]) -> int:
    """How many elements of each head are rotated. Raises UnsupportedError when that is no even part of it."""
    factor = rope_parameters(hparams).get("partial_rotary_factor", 1.0)
    head = hparams.get("head_dim") or hparams["hidden_size"] // hparams["num_attention_heads"]
    count = int(head * factor)
    if factor > 1 or count < 2 or count % 2:
        raise UnsupportedError(
            f"config.json has partial_rotary_factor = {factor}; it would rotate {count} of each head"
        )
    return count


def refuse_other_yarn(rope: Mapping[str, Any]) -> None:
    """llama.cpp always scales attention by 0.1 ln(factor) + 1 and ramps between 32 and 1 rotations (YaRN, eq. 22)."""
    for key, value in YARN_FIXED.items():
        if rope.get(key, value) != value:
            found = str(rope[key])[:40]
            raise UnsupportedError(f"config.json has yarn {key} = {found}; llama.cpp computes only {value}")
    usual = yarn_scale(rope["factor"], 1.0)
    wanted = rope.get("attention_factor")
    if wanted is None and rope.get("mscale") and rope.get("mscale_all_dim"):
        wanted = yarn_scale(rope["factor"], rope["mscale"]) / yarn_scale(rope["factor"], rope["mscale_all_dim"])
    if wanted is not None and not math.isclose(wanted, usual, rel_tol=1e-6):
        raise UnsupportedError(
            f"config.json implies a yarn attention factor of {wanted:.6g}; llama.cpp computes only {usual:.6g}"
        )


def yarn_scale(factor: float, mscale: float) -> float:
    return 0.1 * mscale * math.log(factor) + 1.0
