"""``/v1/completions``, ``/v1/embeddings`` and the tokenizer's endpoints: what is asked."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from edge.wire.chat import Tool
from edge.wire.fields import Body, Flag, Sampled, Text, Whole, WireError
from edge.wire.messages import Messages

MOST_PROMPTS = 64
MOST_INPUTS = 2048

Prompt = str | list[int]
Token = Annotated[int, Field(strict=True, ge=0)]


class CompletionRequest(Sampled):
    unsupported: ClassVar[Mapping[str, str]] = {"best_of": "ask for n answers and choose"}

    prompt: Text | list[Text] | list[Token] | list[list[Token]]
    suffix: Text = ""
    echo: Flag = False
    logprobs: Whole | None = Field(None, ge=0, le=20)
    max_tokens: Whole | None = Field(16, ge=1)
    ignore_eos: Flag = False


def prompts_of(body: CompletionRequest) -> list[Prompt]:
    """Raises WireError."""
    prompts = several(body.prompt)
    if not 1 <= len(prompts) <= MOST_PROMPTS:
        raise WireError(f"1 to {MOST_PROMPTS} prompts at a time, got {len(prompts)}", "prompt")
    if body.suffix and not all(isinstance(prompt, str) for prompt in prompts):
        raise WireError("a suffix needs prompts of text", "suffix")
    return prompts


def several(given: str | list[str] | list[int] | list[list[int]]) -> list[Prompt]:
    """A prompt or a list of them, as a list."""
    if isinstance(given, str):
        return [given]
    tokens = [one for one in given if isinstance(one, int)]
    return [tokens] if tokens else [one for one in given if not isinstance(one, int)]


def completion_options(body: CompletionRequest) -> dict[str, Any]:
    """Raises WireError."""
    body.check()
    options = body.options()
    if body.max_tokens is not None:
        options["max_tokens"] = body.max_tokens
    if body.logprobs is not None:
        if body.echo:
            raise WireError(
                "the prompt's own log probabilities are not computed: leave out echo or logprobs", "logprobs"
            )
        options["logprobs"] = body.logprobs
    if body.ignore_eos:
        options["ignore_eos"] = True
    if body.service_tier == "flex":
        options["side"] = True
    return options


class EmbeddingRequest(Body):
    unsupported: ClassVar[Mapping[str, str]] = {"dimensions": "vectors have the model's own size"}

    model: Text = ""
    input: Text | list[Text] | list[Token] | list[list[Token]]
    encoding_format: Literal["float", "base64"] = "float"


def inputs_of(body: EmbeddingRequest) -> list[str]:
    """Raises WireError. Token ids are refused: whoever sends them has another model's tokenizer."""
    body.check()
    inputs = several(body.input)
    if not 1 <= len(inputs) <= MOST_INPUTS or not all(inputs):
        raise WireError(f"1 to {MOST_INPUTS} inputs, none of them empty", "input")
    texts = [text for text in inputs if isinstance(text, str)]
    if len(texts) < len(inputs):
        hint = "tokens of another tokenizer mean nothing here: send texts (LangChain: check_embedding_ctx_length=False)"
        raise WireError(hint, "input")
    return texts


def embedding_json(index: int, vector: np.ndarray, encoding: str) -> dict[str, Any]:
    """``vector``: float32 [n_embd]."""
    little = np.asarray(vector, "<f4")
    value = base64.b64encode(little.tobytes()).decode() if encoding == "base64" else [float(x) for x in little]
    return {"object": "embedding", "index": index, "embedding": value}


class TokenizeRequest(Body):
    """As llama-server's: control tokens in the text are read as such, unless ``parse_special`` is false."""

    content: Text
    add_special: Flag = False
    parse_special: Flag = True
    with_pieces: Flag = False


class DetokenizeRequest(Body):
    tokens: Sequence[Token]


class TemplateRequest(Body):
    messages: Messages
    tools: list[Tool] = []
    chat_template_kwargs: dict[str, Any] = {}
    add_generation_prompt: Flag = True
