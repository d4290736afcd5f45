"""``/v1/chat/completions``: what is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from edge.constrain import ConstraintSpec
from edge.wire.fields import Body, Flag, Sampled, Text, Whole, WireError
from edge.wire.messages import Messages, for_template

SIDE_TASK = "### Task:"  # how chat pages begin the requests for a title, tags or follow-up questions


class Function(Body):
    name: Annotated[Text, Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]
    description: Text | None = None
    parameters: dict[str, Any] | None = None
    strict: Flag = False


class Tool(Body):
    type: Literal["function"]
    function: Function


class NamedFunction(Body):
    name: Text


class NamedTool(Body):
    type: Literal["function"]
    function: NamedFunction


class JsonSchema(Body):
    name: Text = ""
    description: Text | None = None
    form: dict[str, Any] | None = Field(None, alias="schema")
    strict: Flag = False


class ResponseFormat(Body):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class ChatRequest(Sampled):
    """The fields of OpenAI's that this server honours, and a few that other servers have."""

    unsupported: ClassVar[Mapping[str, str]] = {
        "functions": "send tools",
        "function_call": "send tool_choice",
        "audio": "this model writes text only",
        "prediction": "every token is computed",
        "web_search_options": "there is no network",
        "moderation": "there is none",
    }

    messages: Messages
    max_completion_tokens: Whole | None = Field(None, ge=1)
    logprobs: Flag = False
    top_logprobs: Whole | None = Field(None, ge=0, le=20)
    tools: list[Tool] = []
    tool_choice: Literal["auto", "none", "required"] | NamedTool = "auto"
    parallel_tool_calls: Flag = True
    response_format: ResponseFormat | None = None
    modalities: list[Literal["text"]] = ["text"]
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    chat_template_kwargs: dict[str, Any] = {}
    thinking_budget: Whole | None = Field(None, ge=0)
    grammar: Text | None = Field(None, description="GBNF that the answer is to follow")


@dataclass(frozen=True)
class ChatCall:
    """A chat request in the engine's words: arguments of ``Engine.prepare_chat``, but for the seed of each choice."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None
    tool_choice: str
    parallel: bool
    variables: dict[str, Any]
    options: dict[str, Any]


def chat_call(body: ChatRequest) -> ChatCall:
    """Raises WireError."""
    body.check()
    options = body.options()
    if (most := body.max_completion_tokens or body.max_tokens) is not None:
        options["max_tokens"] = most
    if body.top_logprobs is not None and not body.logprobs:
        raise WireError("top_logprobs needs logprobs: true", "top_logprobs")
    if body.logprobs:
        options["logprobs"] = body.top_logprobs or 0
    if body.thinking_budget is not None:
        options["thinking_budget"] = body.thinking_budget
    if form := wanted_form(body):
        options["constraint"] = form
    if is_side(body):
        options["side"] = True
    tools, choice = offered(body)
    return ChatCall(
        for_template(body.messages), tools, choice, body.parallel_tool_calls, template_variables(body), options
    )


def wanted_form(body: ChatRequest) -> ConstraintSpec | None:
    wanted = body.response_format
    if body.grammar is not None:
        if wanted is not None and wanted.type != "text":
            raise WireError("an answer follows a grammar or a response_format, not both", "grammar")
        return ConstraintSpec("gbnf", body.grammar)
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return ConstraintSpec("json_object")
    if wanted.json_schema is None or wanted.json_schema.form is None:
        raise WireError("json_schema needs a schema", "response_format.json_schema.schema")
    return ConstraintSpec("json_schema", wanted.json_schema.form)


def form_field(body: ChatRequest) -> str:
    """The field that asks for a form of the answer."""
    if body.grammar is not None:
        return "grammar"
    return "tools" if body.response_format is None or body.response_format.type == "text" else "response_format"


def offered(body: ChatRequest) -> tuple[list[dict[str, Any]] | None, str]:
    """The tools as templates take them, and ``auto``, ``none``, ``required`` or the name of one. None: no tools."""
    names = [tool.function.name for tool in body.tools]
    if len(set(names)) < len(names):
        raise WireError("two tools have the same name", "tools")
    choice = body.tool_choice if isinstance(body.tool_choice, str) else body.tool_choice.function.name
    if isinstance(body.tool_choice, NamedTool) and choice not in names:
        raise WireError(f"tool_choice names {choice!r:.80}, which is not among tools", "tool_choice")
    if choice == "required" and not names:
        raise WireError("tool_choice is required, but there are no tools", "tool_choice")
    if not names or body.tool_choice == "none":
        return None, "none"
    return for_tools(body.tools), choice


def for_tools(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """As they were sent, which templates show to the model; a function without parameters has none."""
    given = [tool.model_dump(exclude_unset=True) for tool in tools]
    for tool in given:
        tool["function"].setdefault("parameters", {"type": "object", "properties": {}})
    return given


def template_variables(body: ChatRequest) -> dict[str, Any]:
    effort = body.reasoning_effort
    thinking = {} if effort is None else {"enable_thinking": effort not in ("none", "minimal")}
    return thinking | switches(body.chat_template_kwargs)


def switches(given: Mapping[str, Any]) -> dict[str, Any]:
    """A template's own variables. Raises WireError for those that are fields of the request."""
    if reserved := {"messages", "tools", "add_generation_prompt", "documents"} & given.keys():
        raise WireError(f"chat_template_kwargs cannot set {min(reserved)}", "chat_template_kwargs")
    return dict(given)


def is_side(body: ChatRequest) -> bool:
    """Whether it gives way to conversations: asked for by OpenAI's word for it, or a page's helper."""
    first = next((message.content for message in body.messages if message.role == "user"), "")
    return body.service_tier == "flex" or (isinstance(first, str) and first.startswith(SIDE_TASK))
