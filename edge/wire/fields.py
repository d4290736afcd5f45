"""What the requests of all endpoints have in common: how fields are checked, and which are refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from convert.errors import EdgeError

Whole = Annotated[int, Field(strict=True)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Flag = Annotated[bool, Field(strict=True)]
Text = Annotated[str, Field(strict=True)]

MOST_CHOICES = 16
HARMLESS = frozenset(
    (
        "prompt_cache_options",
        "user",
        "store",
        "metadata",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "verbosity",
    )
)
"""Fields that may be sent and change nothing that an answer says."""


class WireError(EdgeError):
    """A request that cannot be answered as it is: ``param`` names the field, ``code`` is OpenAI's word for it."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param, self.code = param, code


class Body(BaseModel):
    """A JSON body. ``null`` means not sent. A field that is not known may change what is meant, so it is refused."""

    model_config = ConfigDict(extra="allow")
    unsupported: ClassVar[Mapping[str, str]] = {}
    """Known fields that are refused, and why."""

    @model_validator(mode="before")
    @classmethod
    def without_null(cls, value: Any) -> Any:
        return {key: one for key, one in value.items() if one is not None} if isinstance(value, dict) else value

    def check(self) -> None:
        """Raise WireError for a field that is not supported."""
        for name in self.model_extra or {}:
            if name in self.unsupported:
                raise WireError(f"{name} is not supported: {self.unsupported[name]}", name, "unsupported_parameter")
            if name not in HARMLESS:
                raise WireError(f"unrecognized request argument supplied: {name}", name, "unknown_parameter")


class Sampled(Body):
    """Fields of every request that generates. What is left out is as the model's makers advise."""

    model: Text = ""
    stream: Flag = False
    stream_options: dict[str, Any] = {}
    max_tokens: Whole | None = Field(None, ge=1)
    temperature: Number | None = Field(None, ge=0, le=100)
    top_p: Number | None = Field(None, ge=0, le=1)
    top_k: Whole | None = Field(None, ge=0, le=2**31 - 1)
    min_p: Number | None = Field(None, ge=0, le=1)
    repeat_penalty: Number | None = Field(None, gt=0, le=100)
    presence_penalty: Number | None = Field(None, ge=-2, le=2)
    frequency_penalty: Number | None = Field(None, ge=-2, le=2)
    seed: Whole | None = None
    stop: Text | list[Text] | None = None
    n: Whole = Field(1, ge=1, le=MOST_CHOICES)
    logit_bias: dict[str, Number] = {}
    service_tier: Text | None = None

    @property
    def wants_usage(self) -> bool:
        return self.stream_options.get("include_usage") is True

    def options(self) -> dict[str, Any]:
        """``edge.options.Options`` that are the same for all endpoints."""
        names = ("temperature", "top_p", "top_k", "min_p", "repeat_penalty", "presence_penalty", "frequency_penalty")
        chosen = {name: value for name in names if (value := getattr(self, name)) is not None}
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        if stops := [text for text in stops if text]:
            chosen["stop"] = stops
        if self.logit_bias:
            chosen["logit_bias"] = {token_id(key): value for key, value in self.logit_bias.items()}
        return chosen

    def seed_of(self, choice: int) -> int | None:
        """Each choice draws by itself; the first as it would alone."""
        return None if self.seed is None else (self.seed + choice) % 2**32


def token_id(key: str) -> int:
    if not key.isdecimal() or len(key) > 9:
        raise WireError(f"logit_bias maps token ids to numbers, got {key!r:.40}", "logit_bias")
    return int(key)
