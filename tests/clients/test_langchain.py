"""LangChain's ``langchain-openai``."""

from __future__ import annotations

import asyncio
import math
from typing import Any, Literal

import openai
import pytest
import tiktoken
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings
from pydantic import BaseModel

from tests.clients.command import Command

QUESTION = [SystemMessage("You are the information desk."), HumanMessage("Where is the ticket office?")]


class Place(BaseModel):
    """Where something is."""

    floor: Literal["ground", "first", "second"]
    open: bool


@tool
def locate(place: Literal["office", "lift", "exit"], loud: bool) -> str:
    """Tell where something is."""
    return f"the {place} is on the ground floor{'!' * loud}"


def chat(server: Command, **options: Any) -> ChatOpenAI:
    given = {"temperature": 0, "max_tokens": 24, "max_retries": 0, "timeout": 60, **options}
    return ChatOpenAI(base_url=f"{server.url}/v1", api_key="none", model=server.name, **given)  # type: ignore[arg-type]


def joined(chunks: list[AIMessageChunk]) -> AIMessageChunk:
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole = whole + chunk
    return whole


def test_invoke(server: Command):
    answer = chat(server).invoke(QUESTION)
    assert isinstance(answer.content, str) and answer.content.strip()
    assert answer.response_metadata["finish_reason"] in ("stop", "length")
    assert answer.usage_metadata is not None and answer.usage_metadata["output_tokens"] <= 24


def test_stream_with_usage(server: Command):
    whole = chat(server).invoke(QUESTION)
    streamed = joined(list(chat(server, stream_usage=True).stream(QUESTION)))
    assert streamed.content == whole.content
    assert streamed.response_metadata["finish_reason"] == whole.response_metadata["finish_reason"]
    assert streamed.usage_metadata is not None and whole.usage_metadata is not None
    assert streamed.usage_metadata["total_tokens"] == whole.usage_metadata["total_tokens"]


def test_stop_and_seed(server: Command):
    content = chat(server).invoke(QUESTION).content
    assert isinstance(content, str)
    stop = content[6:9]
    assert chat(server).invoke(QUESTION, stop=[stop]).content == content[: content.index(stop)]
    wild = chat(server, temperature=2, seed=5)
    assert wild.invoke(QUESTION).content == wild.invoke(QUESTION).content


def test_batch_and_asyncio(server: Command):
    questions = ["Hello", "Where is the lift?", "When do you open?", "你好"]
    alone = [chat(server).invoke(question).content for question in questions]
    assert [answer.content for answer in chat(server).batch(questions)] == alone

    async def streamed() -> str:
        return "".join([str(chunk.content) async for chunk in chat(server).astream(questions[1])])

    assert asyncio.run(streamed()) == alone[1]


def test_logprobs(server: Command):
    answer = chat(server, logprobs=True, top_logprobs=2).invoke(QUESTION)
    content = answer.response_metadata["logprobs"]["content"]
    assert b"".join(bytes(one["bytes"]) for one in content).decode() == answer.content


@pytest.mark.parametrize("choice", ["any", "locate", "required"])
def test_forced_tools(caller: Command, choice: str):
    bound = chat(caller, max_tokens=600).bind_tools([locate], tool_choice=choice, parallel_tool_calls=False)
    answer = bound.invoke(QUESTION)
    (call,) = answer.tool_calls
    assert call["name"] == "locate" and call["args"]["place"] in ("office", "lift", "exit") and call["id"]
    assert answer.response_metadata["finish_reason"] == "tool_calls"
    streamed = joined(list(bound.stream(QUESTION)))  # type: ignore[arg-type]
    assert [one["args"] for one in streamed.tool_calls] == [call["args"]]


def test_tools_that_may_be_used_and_those_that_may_not(caller: Command):
    auto = chat(caller).bind_tools([locate], tool_choice="auto").invoke(QUESTION)
    assert auto.content or auto.tool_calls
    assert not chat(caller).bind_tools([locate], tool_choice="none").invoke(QUESTION).tool_calls


def test_the_result_of_a_tool_goes_back(caller: Command):
    bound = chat(caller, max_tokens=600).bind_tools([locate], tool_choice="any", parallel_tool_calls=False)
    asked = bound.invoke(QUESTION)
    assert isinstance(asked, AIMessage)
    result = locate.invoke(asked.tool_calls[0])
    assert isinstance(result, ToolMessage) and "ground floor" in str(result.content)
    assert chat(caller).invoke([*QUESTION, asked, result]).content is not None


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_output(caller: Command, method: Any):
    place = chat(caller, max_tokens=600).with_structured_output(Place, method=method).invoke(QUESTION)
    assert isinstance(place, Place)


def test_json_mode(server: Command):
    """Any object; so small a model may not come to its end."""
    asked = chat(server, max_tokens=100).with_structured_output(None, method="json_mode", include_raw=True)
    try:
        content = asked.invoke("Please answer with a JSON object.")["raw"].content  # type: ignore[index]
    except openai.LengthFinishReasonError as cut:
        content = cut.completion.choices[0].message.content
    assert str(content).lstrip().startswith("{")


def test_a_dictionary_for_a_schema(server: Command):
    asked = chat(server, max_tokens=600).with_structured_output(
        Place.model_json_schema(), method="json_schema", strict=True
    )
    assert Place.model_validate(asked.invoke(QUESTION))


def test_texts(server: Command):
    llm = OpenAI(base_url=f"{server.url}/v1", api_key="none", model=server.name, max_tokens=8, temperature=0)  # type: ignore[arg-type]
    assert llm.invoke("The ticket office") == "".join(llm.stream("The ticket office")) != ""


def embeddings(server: Command, **options: Any) -> OpenAIEmbeddings:
    return OpenAIEmbeddings(base_url=f"{server.url}/v1", api_key="none", model="any", max_retries=0, **options)  # type: ignore[arg-type]


def test_embeddings_of_texts(server: Command):
    vectors = embeddings(server, check_embedding_ctx_length=False)
    first, second = vectors.embed_documents(["The ticket office", "你好"])
    assert vectors.embed_query("The ticket office") == pytest.approx(first, abs=1e-3)
    assert math.isclose(math.hypot(*second), 1, rel_tol=1e-5) and first != second


def test_embeddings_of_another_tokenizers_tokens(server: Command, monkeypatch: pytest.MonkeyPatch):
    """What LangChain sends unless it is told otherwise: it would give vectors of other words, silently."""
    bytes_only = {bytes([value]): 50_000 + value for value in range(256)}
    encoding = tiktoken.Encoding("of bytes", pat_str=r"[\s\S]", mergeable_ranks=bytes_only, special_tokens={})
    monkeypatch.setattr(tiktoken, "encoding_for_model", lambda name: encoding)
    with pytest.raises(openai.BadRequestError, match="send texts"):
        embeddings(server).embed_query("The ticket office")


def test_a_refusal_names_the_field(server: Command):
    with pytest.raises(openai.BadRequestError) as refused:
        chat(server, top_p=3).invoke(QUESTION)
    assert refused.value.param == "top_p"


def test_a_prompt_that_is_too_long(server: Command):
    with pytest.raises(openai.BadRequestError, match="maximum context length is 2048 tokens"):
        chat(server).invoke("ticket office " * 3000)
