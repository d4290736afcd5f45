"""Read by schemathesis: answers are kept short, so that many requests fit into a minute."""

from __future__ import annotations

from typing import Any

import schemathesis

SHORT = 8  # tokens


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """What is wrong with a body stays wrong."""
    if isinstance(body, dict) and ("messages" in body or "prompt" in body):
        for name in ("max_tokens", "max_completion_tokens"):
            given = body.get(name)
            if given is None or (type(given) is int and given > SHORT):
                body[name] = SHORT
        if "prompt" in body:
            del body["max_completion_tokens"]  # of chats only
    return body
