"""What is answered: whole answers and chunks of a stream, for chats and for texts."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edge.answer import Delta, Result
from edge.chat.output import Call, CallArguments, CallBegin, Unfinished
from edge.engine.types import Timings

Json = dict[str, Any]


@dataclass(frozen=True)
class Head:
    """What is the same in all chunks of an answer."""

    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str

    def chunk(self, choices: list[Json], **more: Any) -> Json:
        return {
            "id": self.id,
            "object": self.object,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.system_fingerprint,
            "choices": choices,
            **more,
        }


def head(kind: str, model: str, fingerprint: str) -> Head:
    prefix = "cmpl" if kind == "text_completion" else "chatcmpl"
    return Head(new_id(prefix + "-"), kind, int(time.time()), model, fingerprint)


def new_id(prefix: str) -> str:
    return prefix + secrets.token_hex(12)


encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode  # json.dumps would make one a token


def event(value: Json | str) -> bytes:
    """A server-sent event."""
    text = value if isinstance(value, str) else encode(value)
    return b"data: " + text.encode() + b"\n\n"


def finish_reason(result: Result) -> str:
    """OpenAI's words. An answer cut by the deadline is as one cut by a limit; so is one that a limit cut in a call."""
    if result.finish_reason in ("length", "cancelled") or result.unfinished:
        return "length"
    return result.finish_reason


def usage(timings: Sequence[Timings], prompts: int = 1) -> Json:
    """Of answers to ``prompts`` prompts; a prompt with several answers counts once."""
    each = len(timings) // prompts
    read = sum(one.prompt_tokens for one in timings[::each])
    cached = sum(one.cached_tokens for one in timings[::each])
    written = sum(one.generated_tokens for one in timings)
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def timings_json(timings: Timings) -> Json:
    """In the words of llama-server; times in milliseconds."""
    return {
        "queue_ms": round(timings.queue * 1e3, 1),
        "cache_n": timings.cached_tokens,
        "prompt_n": timings.prompt_tokens - timings.cached_tokens,
        "prompt_ms": round(timings.prefill * 1e3, 1),
        "prompt_per_second": round(timings.prefill_rate, 2),
        "predicted_n": timings.generated_tokens,
        "predicted_ms": round(timings.decode * 1e3, 1),
        "predicted_per_second": round(timings.decode_rate, 2),
    }


# --- chats


def chat_choice(index: int, result: Result, logprobs: Json | None) -> Json:
    message: Json = {"role": "assistant", "content": result.text or None if result.calls else result.text}
    message["refusal"] = None
    if result.reasoning:
        message["reasoning_content"] = result.reasoning
    if result.unfinished:
        message["content"] = result.text + result.unfinished
    if result.calls:
        message["tool_calls"] = [whole_call(call) for call in result.calls]
    return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": finish_reason(result)}


def whole_call(call: Call) -> Json:
    return {
        "id": new_id("call_"),
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments or "{}"},
    }


@dataclass
class ChatChunks:
    """The choices in the chunks of one answer: the first, one a delta, the last."""

    index: int

    def first(self) -> Json:
        return self._choice({"role": "assistant", "content": ""})

    def next(self, delta: Delta, logprobs: Json | None = None) -> Json | None:
        """None for a delta that says nothing in this format."""
        if delta.text:
            return self._choice({"content": delta.text}, logprobs)
        if delta.reasoning:
            return self._choice({"reasoning_content": delta.reasoning})
        match delta.call:
            case CallBegin(index, name):
                function = {"name": name, "arguments": ""}
                call: Json = {"index": index, "id": new_id("call_"), "type": "function", "function": function}
                return self._choice({"tool_calls": [call]})
            case CallArguments(index, text) if text:
                return self._choice({"tool_calls": [{"index": index, "function": {"arguments": text}}]})
            case Unfinished(text):
                return self._choice({"content": text}, logprobs)
        return None

    def last(self, result: Result) -> Json:
        return self._choice({}, reason=finish_reason(result))

    def _choice(self, delta: Json, logprobs: Json | None = None, reason: str | None = None) -> Json:
        return {"index": self.index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}


# --- texts


def text_choice(index: int, text: str, logprobs: Json | None = None, reason: str | None = None) -> Json:
    return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}
