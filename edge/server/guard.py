"""Who may ask what: host names, keys, origins, content types, sizes. Before anything is read of a body."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import socket
from collections.abc import Iterable, Mapping
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge.server.config import Config
from edge.server.errors import Fault

MOST_BODY = 16 << 20  # bytes
BODY_SECONDS = 30.0  # for a whole body
PUBLIC = ("/", "/health", "/v1/health", "/favicon.ico", "/operator")
PUBLIC_BELOW = ("/page/", "/operator/page/")
OPERATORS = "/operator/status"  # has keys of its own
PREFLIGHT_SECONDS = "600"
CLOSE = {"Connection": "close"}  # where the rest of the body is not read


class Guard:
    """ASGI middleware. ``scope["client_name"]`` tells the endpoints apart who asks: a key's, or an address's."""

    def __init__(self, app: ASGIApp, config: Config) -> None:
        self._app = app
        self._keys, self._operators = digests(config.keys), digests(config.operator_keys)
        self._hosts = own_names(config)
        self._origins = frozenset(origin.lower() for origin in config.origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin", "").lower()
        if origin in self._origins:
            send = with_headers(send, cors_headers(headers["origin"]))
        if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            await self._preflight(origin, headers)(scope, receive, send)
            return
        if (fault := self._refusal(scope, headers)) is not None:
            await respond(fault)(scope, receive, send)
            return
        await self._app(scope, Body(receive).receive, send)

    def _refusal(self, scope: Scope, headers: Headers) -> Fault | None:
        if not self._is_own(headers.get("host", "")):
            return Fault(403, "this server is not called so; name it with --allow-host", "unknown_host")
        if "content-length" in headers and "transfer-encoding" in headers:  # readers disagree where its body ends
            return Fault(400, "a body has a length or comes in chunks, not both", "invalid_request", headers=CLOSE)
        key = key_of(headers)
        known = self._operators or self._keys if scope["path"] == OPERATORS else self._keys
        if known and not is_public(scope["path"]) and not knows(known, key):
            return Fault(401, "a key is needed" if not key else "the key is not known", "invalid_api_key")
        scope["client_name"] = hashlib.sha256(key.encode()).hexdigest() if self._keys else client_address(scope)
        if scope["method"] in ("POST", "PUT", "PATCH"):
            content = headers.get("content-type", "").partition(";")[0].strip().lower()
            if content != "application/json":
                return Fault(415, "a body is JSON, as content type application/json", "invalid_content_type")
            length = headers.get("content-length", "0")
            if length.isdecimal() and int(length) > MOST_BODY:
                return too_large()
        return None

    def _is_own(self, host: str) -> bool:
        """Names that a page elsewhere could have pointed here are not; addresses cannot be."""
        name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
        name = name.lower().rstrip(".")
        if name in self._hosts:
            return True
        try:
            ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
        except ValueError:
            return False
        return True

    def _preflight(self, origin: str, headers: Headers) -> Response:
        if origin not in self._origins:
            return respond(Fault(403, "pages of this origin may not ask; name it with --cors-origin", "unknown_origin"))
        allowed = {
            "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
            "Access-Control-Allow-Headers": headers.get("access-control-request-headers", ""),
            "Access-Control-Max-Age": PREFLIGHT_SECONDS,
        }
        if headers.get("access-control-request-private-network") == "true" and origin.startswith("https://"):
            allowed["Access-Control-Allow-Private-Network"] = "true"
        return Response(status_code=204, headers=allowed)


class BodyRefused(Exception):
    """Raised to whoever reads the body."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


class Body:
    """A request's body as it comes: not too much of it, and not too slowly."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._size = 0
        self._until: float | None = asyncio.get_running_loop().time() + BODY_SECONDS

    async def receive(self) -> Message:
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            raise BodyRefused(Fault(408, "the body did not come", "request_timeout")) from None
        self._size += len(message.get("body", b""))
        if self._size > MOST_BODY:
            raise BodyRefused(too_large())
        if not message.get("more_body", False):
            self._until = None  # afterwards only the end of the connection is awaited
        return message


def own_names(config: Config) -> frozenset[str]:
    machine = socket.gethostname().lower()
    return frozenset(
        {"localhost", config.host.lower(), machine, f"{machine}.local", *map(str.lower, config.hosts)} - {""}
    )


def digests(keys: Iterable[str]) -> list[bytes]:
    return [hashlib.sha256(key.encode()).digest() for key in keys]


def knows(known: Iterable[bytes], key: str) -> bool:
    """In a time that tells nothing of how much of it is right."""
    (digest,) = digests([key])
    return any([hmac.compare_digest(digest, one) for one in known])


def key_of(headers: Mapping[str, str]) -> str:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")


def is_public(path: str) -> bool:
    return path in PUBLIC or path.startswith(PUBLIC_BELOW)


def client_address(scope: Scope) -> str:
    client: Any = scope.get("client")
    return str(client[0]) if client else ""


def too_large() -> Fault:
    return Fault(413, f"a body has at most {MOST_BODY >> 20} MiB", "too_large")


def cors_headers(origin: str) -> dict[str, str]:
    return {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Expose-Headers": "Retry-After, X-Request-Id",
        "Vary": "Origin",
    }


def with_headers(send: Send, more: Mapping[str, str]) -> Send:
    added = [(name.lower().encode(), value.encode("latin-1")) for name, value in more.items()]

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *added]}
        await send(message)

    return sending


def respond(fault: Fault, more: Iterable[tuple[str, str]] = ()) -> JSONResponse:
    headers = {**fault.headers, **dict(more)}
    if fault.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if fault.status in (408, 413):
        headers |= CLOSE
    return JSONResponse(fault.body(), fault.status, headers)
