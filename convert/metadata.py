"""GGUF metadata as values: one key, its type, its value; and the keys that come from config files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from convert.errors import CheckpointError

FLOAT32_MAX = (2 - 2**-23) * 2.0**127

Kind = Literal["u32", "i32", "f32", "bool", "str", "[str]", "[i32]", "[f32]", "[bool]"]


@dataclass(frozen=True)
class KV:
    """One metadata entry; ``kind`` is the GGUF type, in brackets for an array of it."""

    key: str
    kind: Kind
    value: Any


def check_metadata(metadata: Iterable[KV]) -> None:
    """Every value must fit its type and every text be text. Raises CheckpointError naming the key."""
    for kv in metadata:
        values = kv.value if kv.kind.startswith("[") else [kv.value]
        fits = FITS[kv.kind.strip("[]")]
        if (wrong := next((value for value in values if not fits(value)), None)) is not None:
            raise CheckpointError(
                f"{str(wrong)[:40]!a} cannot be the value of {kv.key}", "look for it in the checkpoint's JSON files"
            )


# generation_config.json key -> GGUF key and kind: the model's own sampling defaults, read by the engine.
SAMPLING = (
    ("sequence", "general.sampling.sequence", "str"),
    ("top_k", "general.sampling.top_k", "i32"),
    ("top_p", "general.sampling.top_p", "f32"),
    ("min_p", "general.sampling.min_p", "f32"),
    ("xtc_probability", "general.sampling.xtc_probability", "f32"),
    ("xtc_threshold", "general.sampling.xtc_threshold", "f32"),
    ("temperature", "general.sampling.temp", "f32"),
    ("penalty_last_n", "general.sampling.penalty_last_n", "i32"),
    ("penalty_repeat", "general.sampling.penalty_repeat", "f32"),
    ("repetition_penalty", "general.sampling.penalty_repeat", "f32"),
    ("mirostat", "general.sampling.mirostat", "i32"),
    ("mirostat_tau", "general.sampling.mirostat_tau", "f32"),
    ("mirostat_eta", "general.sampling.mirostat_eta", "f32"),
)


def sampling_metadata(generation_config: Mapping[str, Any]) -> list[KV]:
    """The ``general.sampling.*`` keys. Raises CheckpointError for a value of the wrong type."""
    found = []
    for source, key, kind in SAMPLING:
        value = generation_config.get(source)
        if value is None or any(kv.key == key for kv in found):
            continue
        fits = {"str": isinstance(value, str), "i32": is_integer(value), "f32": is_number(value)}[kind]
        if not fits:
            raise CheckpointError(f"generation_config.json: {source} is {str(value)[:40]!r}, not what it should be")
        found.append(KV(key, kind, value))  # type: ignore[arg-type]
    return found


def is_text(value: Any) -> bool:
    """Whether it can be written: JSON may hold half of a character."""
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)


def is_number(value: Any) -> bool:
    """Whether it is a number that a float32 can hold."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= FLOAT32_MAX


def is_integer(value: Any) -> bool:
    return type(value) is int and -(2**31) <= value < 2**31


FITS: dict[str, Callable[[Any], bool]] = {
    "u32": lambda value: type(value) is int and 0 <= value < 2**32,
    "i32": is_integer,
    "f32": is_number,
    "bool": lambda value: isinstance(value, bool),
    "str": is_text,
}
