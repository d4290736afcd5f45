"""Options that commands which load a model have in common, named as llama.cpp's.

They reach the command as keyword arguments, which ``engine_and_answer`` sorts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from convert.errors import EdgeError

DEFAULT_CONTEXT = 4096  # tokens; ``edge.api`` has it too, and takes long to import

Function = Callable[..., Any]


class GpuLayers(click.ParamType):
    """A number, ``auto`` or ``all``."""

    name = "N|auto|all"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        if value in ("auto", "all"):
            return "auto" if value == "auto" else -1
        try:
            number = int(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number nor auto nor all", param, ctx)
        if not -1 <= number < 2**31:
            self.fail(f"{number} layers are not possible; -1 means all", param, ctx)
        return number


class Shares(click.ParamType):
    """Numbers with commas between them."""

    name = "N,N..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        try:
            shares = tuple(float(share) for share in value.split(","))
        except ValueError:
            shares = ()
        if not any(shares) or not all(0 <= share < math.inf for share in shares):
            self.fail(f"{value!r} is no list of shares such as 3,1", param, ctx)
        return shares


class Numbers(click.ParamType):
    """Whole numbers from ``least`` to ``most`` with commas between them; each once, ascending. ``least`` is always
    among them: what others are compared with."""

    name = "N,N..."

    def __init__(self, least: int, most: int) -> None:
        self.least, self.most = least, most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        parts = str(value).split(",") if not isinstance(value, tuple) else [*map(str, value)]
        if not all(is_count(part.strip()) and self.least <= int(part) <= self.most for part in parts):
            self.fail(f"{value!r} is no list of whole numbers from {self.least} to {self.most}", param, ctx)
        return tuple(sorted({self.least, *map(int, parts)}))


class Thinking(click.ParamType):
    """What ``answering.thinking`` takes: ``on``, ``off``, or a number of tokens."""

    name = "on|off|N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value in ("on", "off") or is_count(value):
            return value
        self.fail(f"{value!r} is neither on nor off nor a number of tokens", param, ctx)


def is_count(text: str) -> bool:
    """Whether it is a number of tokens."""
    return text.isdecimal() and len(text) < 10


def switch(_ctx: click.Context, _param: click.Parameter, value: str | None) -> bool | None:
    return {"on": True, "off": False}.get(value or "auto")


threads = click.IntRange(1, 512)
MEASURED = (  # what a measurement may fix, too
    click.option("-t", "--threads", type=threads, help="Threads (default: tuned, or the physical cores)."),
    click.option("-tb", "--threads-batch", type=threads, help="Threads that read prompts (default: as --threads)."),
    click.option("-ngl", "--gpu-layers", type=GpuLayers(), help="Layers on GPUs (default: auto, what fits there)."),
    click.option(
        "-fa", "--flash-attn", type=click.Choice(["on", "off", "auto"]), callback=switch, help="Flash attention."
    ),
    click.option(
        "--kv-type",
        "--cache-type",
        "kv_type",
        type=click.Choice(["f16", "q8_0", "q4_0"]),
        help="Type of the KV cache (default: f16).",
    ),
)
ENGINE = (
    click.option(
        "-c", "--ctx", type=click.IntRange(8), help=f"Context in tokens (default: {DEFAULT_CONTEXT}, or less)."
    ),
    *MEASURED,
    click.option("-ts", "--tensor-split", type=Shares(), help="Share of each GPU, as 3,1 (default: by their room)."),
    click.option("-mg", "--main-gpu", type=click.IntRange(0), help="Only this GPU, counted from 0."),
    click.option("--mlock", "use_mlock", is_flag=True, default=None, help="Keep the model from being swapped out."),
    click.option("--mmap/--no-mmap", "use_mmap", default=None, help="Map the file, or read it (default: map)."),
    click.option("--deterministic", is_flag=True, default=None, help="No answer depends on others; slower."),
)
ANSWER = (
    click.option("-n", "--max-tokens", type=click.IntRange(1), help="End an answer after this many tokens."),
    click.option("--temp", "temperature", type=float, help="Temperature; 0 takes the likeliest token."),
    click.option("--top-k", type=int, help="Draw from this many likeliest tokens; 0 is off."),
    click.option("--top-p", type=float, help="Draw from the likeliest tokens with this share; 1 is off."),
    click.option("--min-p", type=float, help="Leave tokens below this share of the likeliest; 0 is off."),
    click.option("--repeat-penalty", type=float, help="Divide what was there lately; 1 is off."),
    click.option("--seed", type=int, help="Draw the same answer each time."),
    click.option("--stop", multiple=True, help="End an answer before this text; may be repeated."),
    click.option("--json-schema", "schema", help="Answer in JSON that fits this schema: a file, or the JSON itself."),
)


think_option = click.option(
    "--think", type=Thinking(), help="Whether the model thinks before it answers, or how many tokens at most."
)


def model_options(function: Function) -> Function:
    """Add all of them to a command."""
    return with_options((*ENGINE, *ANSWER), function)


def measured_options(function: Function) -> Function:
    """Add those that a measurement takes."""
    return with_options(MEASURED, function)


def with_options(options: Sequence[Function], function: Function) -> Function:
    for option in reversed(options):
        function = option(function)
    return function


def engine_and_answer(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Keyword arguments of ``Engine`` and of ``Engine.chat``, without what was not given: there the model's own values
    stand. What is wrong is refused now, before a model is loaded. Raises EdgeError."""
    from edge.llama.sampler import Sampling
    from edge.options import SAMPLING, Options

    chosen = {name: value for name, value in given.items() if value is not None and value != ()}
    answer = {name: chosen.pop(name) for name in Options.__annotations__ if name in chosen}
    Sampling(**{name: answer[name] for name in SAMPLING & answer.keys()})
    check_kv_type(chosen)
    if "schema" in answer:
        answer["schema"] = schema_text(answer["schema"])
    return chosen, answer


def check_kv_type(given: Mapping[str, Any]) -> None:
    """Raise EdgeError for a cache that the chosen attention cannot read."""
    if given.get("flash_attn") is False and (kv_type := given.get("kv_type") or "f16") != "f16":
        raise EdgeError(f"a KV cache of {kv_type} needs flash attention", "leave --flash-attn off out")


def schema_text(given: str) -> str:
    """JSON as it is, or the content of the file. Raises EdgeError where it is neither."""
    text, name = given, "--json-schema"
    if not given.lstrip().startswith("{"):
        try:
            text, name = Path(given).read_text(encoding="utf-8-sig"), given  # editors on Windows put a mark first
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise EdgeError(f"cannot read the schema {given}: {reason}", "give a file, or the JSON itself") from error
    try:
        json.loads(text)
    except (ValueError, RecursionError) as error:
        raise EdgeError(f"{name} is not JSON: {error}") from error
    return text
