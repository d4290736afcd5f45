"""From logits to a token: the settings, and llama.cpp's chain that follows them."""

from __future__ import annotations

import dataclasses
import math
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from convert.errors import EdgeError
from edge.llama.context import Context
from edge.llama.model import Model

PENALTY_CANDIDATES = 256
"""Penalties look at this many best tokens: over a vocabulary of 150,000 they would cost milliseconds."""

RANDOM_SEED = 0xFFFFFFFF  # llama.cpp draws its own seed for this value

METADATA_KEYS = {
    "temperature": "general.sampling.temp",
    "top_k": "general.sampling.top_k",
    "top_p": "general.sampling.top_p",
    "min_p": "general.sampling.min_p",
    "repeat_penalty": "general.sampling.penalty_repeat",
    "penalty_last_n": "general.sampling.penalty_last_n",
}


class SamplingError(EdgeError):
    """A sampling setting is outside its range."""


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn.

    ``temperature`` 0 takes the most likely token always. ``top_k`` 0, ``top_p`` 1 and ``min_p`` 0 are
    off. ``repeat_penalty`` divides (1 is off) tokens seen in the last ``penalty_last_n``, prompt
    included; ``presence_penalty`` and ``frequency_penalty`` subtract (0 is off) for generated tokens
    only. ``seed`` None draws differently each time.

    Raises ``SamplingError``, naming the field.
    """

    temperature: float = 0.7
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.0
    repeat_penalty: float = 1.0
    penalty_last_n: int = 64
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None

    def __post_init__(self) -> None:
        for field, (low, high) in RANGES.items():
            value = getattr(self, field)
            kinds = (int,) if field in WHOLE else (int, float)
            if type(value) not in kinds or not math.isfinite(value) or not low <= value <= high:
                raise SamplingError(f"{field} is {low} to {high}, got {value!r}")
        if self.seed is not None and type(self.seed) is not int:
            raise SamplingError(f"seed is a whole number, got {self.seed!r}")

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> Sampling:
        """What the model's makers advise in ``general.sampling.*``; values that make no sense are left."""
        sampling = cls()
        for field, key in METADATA_KEYS.items():
            if key not in metadata:
                continue
            value = metadata[key]
            if field in WHOLE and isinstance(value, float) and value.is_integer():
                value = int(value)
            try:
                sampling = dataclasses.replace(sampling, **{field: value})
            except SamplingError:
                continue
        return sampling

    @property
    def greedy(self) -> bool:
        return self.temperature == 0

    @property
    def penalizes(self) -> bool:
        return self.repeat_penalty != 1 or self.presence_penalty != 0 or self.frequency_penalty != 0


RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0, 100),
    "top_k": (0, 2**31 - 1),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "repeat_penalty": (0.01, 100),
    "penalty_last_n": (0, 2**20),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
}
WHOLE = {"top_k", "penalty_last_n"}


NO_BIAS: Mapping[int, float] = MappingProxyType({})


class Sampler:
    """The chain for one sequence; it remembers the tokens it drew. A context manager.

    The order is that of the reference library (penalties, temperature, top-k, top-p, min-p), because
    the advised values were found with it; llama.cpp's own tools put the temperature last.
    """

    def __init__(
        self, model: Model, sampling: Sampling, prompt: Iterable[int] = (), bias: Mapping[int, float] = NO_BIAS
    ) -> None:
        """``bias`` is added to the logits of tokens; minus infinity forbids one."""
        lib = self._lib = model.lib
        params = lib.llama_sampler_chain_default_params()
        params.no_perf = True
        self._chain: Any = lib.llama_sampler_chain_init(params)
        self._free = weakref.finalize(self, lib.llama_sampler_free, self._chain)
        if bias:
            lib.llama_sampler_chain_add(self._chain, _bias_link(model, bias))
        for link in _links(model, sampling, list(prompt)):
            lib.llama_sampler_chain_add(self._chain, link)

    def sample(self, context: Context, row: int) -> int:
        """Draw a token from the logits of batch row ``row``, and remember it."""
        context.check_output(row)
        return self._lib.llama_sampler_sample(self._open(), context.pointer, row)

    def accept(self, token: int) -> None:
        """Remember a token that was not drawn here."""
        self._lib.llama_sampler_accept(self._open(), token)

    def close(self) -> None:
        """Free the chain; harmless when repeated."""
        self._free()

    def __enter__(self) -> Sampler:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> Any:
        if not self._free.alive:
            raise ValueError("the sampler is closed")
        return self._chain


def _bias_link(model: Model, bias: Mapping[int, float]) -> Any:
    lib = model.lib
    for token in bias:
        model.check_token(token)
    entries = (lib.llama_logit_bias * len(bias))(*(lib.llama_logit_bias(*one) for one in bias.items()))
    return lib.llama_sampler_init_logit_bias(model.n_vocab, len(bias), entries)


def _links(model: Model, s: Sampling, prompt: list[int]) -> Iterable[Any]:
    lib = model.lib
    if s.penalizes:
        yield lib.llama_sampler_init_top_k(max(PENALTY_CANDIDATES, s.top_k))
        repeat = lib.llama_sampler_init_penalties(model.n_vocab, s.penalty_last_n, s.repeat_penalty, 0.0, 0.0)
        for token in prompt[-s.penalty_last_n :] if s.penalty_last_n else ():
            lib.llama_sampler_accept(repeat, token)
        yield repeat
        yield lib.llama_sampler_init_penalties(
            model.n_vocab, s.penalty_last_n, 1.0, s.frequency_penalty, s.presence_penalty
        )
    if s.greedy:
        yield lib.llama_sampler_init_greedy()
        return
    yield lib.llama_sampler_init_temp(s.temperature)
    if s.top_k:
        yield lib.llama_sampler_init_top_k(s.top_k)
    if s.top_p < 1:
        yield lib.llama_sampler_init_top_p(s.top_p, 1)
    if s.min_p:
        yield lib.llama_sampler_init_min_p(s.min_p, 1)
    yield lib.llama_sampler_init_dist(RANDOM_SEED if s.seed is None else s.seed & 0x7FFFFFFF)
