"""What ``edge serve`` is told, checked before anything is loaded or bound."""

from __future__ import annotations

import ipaddress
import socket as sockets
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from convert.errors import EdgeError

PORT = 8080


class ConfigError(EdgeError):
    """The server cannot be run as it was told."""


@dataclass(frozen=True)
class Config:
    """``queue``: requests that may wait beside those in slots. ``timeout``: seconds for an answer, waiting included;
    ``answer_seconds``: from its slot on, after which it ends with its sentence. ``origins``: of pages elsewhere that
    may ask. ``hosts``: further names by which this server is called. ``operator_keys``: who may see how it is."""

    host: str = "127.0.0.1"
    port: int = PORT
    socket: Path | None = None
    passed: sockets.socket | None = None  # listens already, at the address above
    keys: tuple[str, ...] = ()
    queue: int = 16
    timeout: float = 600.0
    answer_seconds: float | None = None
    origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    kiosk: Kiosk | None = None
    operator_keys: tuple[str, ...] = ()

    @property
    def soft_deadline(self) -> float | None:
        return self.answer_seconds or (self.kiosk.answer_seconds if self.kiosk else None)


class Golden(BaseModel):
    """The question that a new installation is tried with."""

    model_config = ConfigDict(extra="forbid")

    question: Annotated[str, Field(min_length=1, max_length=2000)]


class Kiosk(BaseModel):
    """A page for visitors, from a TOML file."""

    model_config = ConfigDict(extra="forbid")

    title: str = ""
    welcome: str = ""
    language: Literal["zh", "en"] | None = None
    system: str = ""
    questions: Annotated[list[str], Field(max_length=24)] = []
    idle_seconds: Annotated[int, Field(ge=10, le=86400)] = 120
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    answer_seconds: Annotated[float, Field(ge=1, le=3600)] | None = None
    golden: Golden | None = None


def read_kiosk(path: Path) -> Kiosk:
    """Raises ConfigError that names the field."""
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    try:
        return Kiosk.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def read_keys(path: Path) -> tuple[str, ...]:
    """One key a line; what follows a # is a remark. Raises ConfigError."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the key file: {getattr(error, 'strerror', None) or error}") from error
    keys = tuple(key for line in lines if (key := line.partition("#")[0].strip()))
    if not keys:
        raise ConfigError("the key file holds no key", "write one a line")
    if any(not key.isascii() or not key.isprintable() or " " in key for key in keys):
        raise ConfigError("a key is of letters, digits and signs of ASCII, without spaces")
    return keys


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_reach(config: Config, without_key: bool) -> None:
    """Raise ConfigError where others could use the server unasked."""
    if config.socket is None and not is_loopback(config.host) and not config.keys and not without_key:
        raise ConfigError(
            f"{config.host} can be reached from other machines, and there is no key",
            "give --api-key-file, or --without-key if everybody may ask",
        )
    for origin in config.origins:
        scheme, _, rest = origin.partition("://")
        if scheme not in ("http", "https") or not rest or "/" in rest or "*" in rest:
            raise ConfigError(f"{origin!r} is no origin", "write it as https://chat.example.org")
