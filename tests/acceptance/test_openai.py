"""Assistants as models of OpenAI, for the official client of that protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import uuid4

import openai
import pytest
from langgraph_sdk.client import LangGraphClient
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from ..servers import InterlockServer

ASK: Any = [{"role": "user", "content": "Which lorry?"}]
ANSWER = "Red lorry, yellow lorry."


@pytest.fixture
async def models(server: InterlockServer) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as opened:
        yield opened


async def streamed(models: AsyncOpenAI, model: str, messages: Any = ASK, **more: Any) -> list[Any]:
    stream: Any = await models.chat.completions.create(model=model, messages=messages, stream=True, **more)
    chunks = [chunk async for chunk in stream]
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk.model_dump(exclude_unset=True), strict=True)
    return chunks


def text(chunks: list[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def last(chunks: list[Any]) -> Any:
    return [chunk for chunk in chunks if chunk.choices][-1]


async def test_the_assistants_that_talk_are_models(models: AsyncOpenAI) -> None:
    ids = {model.id async for model in models.models.list()}
    assert {"chat", "agent", "tools"} <= ids
    assert "slow" not in ids
    assert (await models.models.retrieve("chat")).owned_by == "interlock"


async def test_a_completion_is_what_the_model_said_with_its_usage(models: AsyncOpenAI) -> None:
    answer = await models.chat.completions.create(model="chat", messages=ASK)
    ChatCompletion.model_validate(answer.model_dump(exclude_unset=True), strict=True)
    [choice] = answer.choices
    assert (choice.message.content, choice.finish_reason) == (ANSWER, "stop")
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (7, 3)


async def test_a_stream_brings_the_words_one_by_one_and_the_usage_when_asked(models: AsyncOpenAI) -> None:
    chunks = await streamed(models, "chat", stream_options={"include_usage": True})
    words = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]
    assert words == ["Red ", "lorry, ", "yellow ", "lorry."]
    assert last(chunks).choices[0].finish_reason == "stop"
    assert chunks[-1].usage.total_tokens == 10
    assert len({chunk.id for chunk in chunks}) == 1


async def test_calls_that_the_graph_made_are_told_apart_from_calls_that_are_left_to_the_client(
    models: AsyncOpenAI,
) -> None:
    answer = await models.chat.completions.create(model="tools", messages=ASK)
    [choice] = answer.choices
    assert (choice.message.tool_calls, choice.finish_reason) == (None, "stop")
    [made] = answer.model_extra["interlock"]["tool_calls"]
    assert (made["name"], made["result"]) == ("lookup", "lorry: a large vehicle")
    chunks = await streamed(models, "tools")
    assert text(chunks) == ANSWER
    assert last(chunks).model_extra["interlock"]["tool_calls"] == [made]


async def test_a_thread_keeps_the_conversation_and_takes_only_what_is_new(
    models: AsyncOpenAI, client: LangGraphClient
) -> None:
    thread = str(uuid4())
    named = {"X-Thread-Id": thread}
    system: Any = [{"role": "system", "content": "Be brief."}]
    await models.chat.completions.create(model="chat", messages=system + ASK, extra_headers=named)
    # A client that sends the whole conversation, and one that sends only what is new.
    whole: Any = [
        *system,
        *ASK,
        {"role": "assistant", "content": ANSWER},
        {"role": "user", "content": "And?"},
    ]
    await models.chat.completions.create(model="chat", messages=whole, extra_headers=named)
    new: Any = [{"role": "user", "content": "More!"}]
    assert text(await streamed(models, "chat", new, user=thread)) == ANSWER
    messages = (await client.threads.get_state(thread))["values"]["messages"]
    assert [m["content"] for m in messages] == [
        "Be brief.",
        "Which lorry?",
        ANSWER,
        "And?",
        ANSWER,
        "More!",
        ANSWER,
    ]
    with pytest.raises(openai.UnprocessableEntityError, match="nothing in `messages` is new"):
        await models.chat.completions.create(model="chat", messages=whole[:3], extra_headers=named)


async def test_without_a_thread_no_thread_is_left(models: AsyncOpenAI, client: LangGraphClient) -> None:
    assistant = await client.assistants.create("chat", name=uuid4().hex)
    await models.chat.completions.create(model=assistant["name"], messages=ASK, user="somebody")
    await streamed(models, assistant["assistant_id"])
    assert await client.threads.search(metadata={"assistant_id": assistant["assistant_id"]}) == []
    await client.assistants.delete(assistant["assistant_id"])


@pytest.fixture
async def asking(client: LangGraphClient) -> AsyncIterator[str]:
    """A model that cannot get on: its budget is one superstep."""
    config: Any = {"budget": {"steps": 1}}
    assistant = await client.assistants.create("tools", name=uuid4().hex, config=config)
    yield assistant["name"]
    await client.assistants.delete(assistant["assistant_id"])


async def test_a_run_that_waits_finishes_clearly_and_goes_on_by_a_command(
    models: AsyncOpenAI, asking: str
) -> None:
    answer = await models.chat.completions.create(model=asking, messages=ASK)
    [choice] = answer.choices
    waiting = answer.model_extra["interlock"]
    assert (choice.finish_reason, choice.message.tool_calls) == ("stop", None)
    assert waiting["status"] == "interrupted"
    assert waiting["thread_id"] in choice.message.content

    chunks = await streamed(models, asking)
    assert "waits for a person" in text(chunks)
    assert last(chunks).model_extra["interlock"]["status"] == "interrupted"

    done = await models.chat.completions.create(
        model=asking,
        messages=[],
        extra_headers={"X-Thread-Id": waiting["thread_id"]},
        extra_body={
            "command": {"resume": {"decisions": [{"type": "edit", "edited_action": GRANT}]}},
        },
    )
    assert done.choices[0].message.content == ANSWER


GRANT = {"name": "continue_run", "args": {"steps": 9}}


async def test_a_run_that_fails_is_an_error_that_nobody_sends_again(
    models: AsyncOpenAI, client: LangGraphClient
) -> None:
    broken: Any = [{"role": "assistant", "tool_calls": [_call("{}")], "content": ""}, *ASK]
    with pytest.raises(openai.UnprocessableEntityError, match="tool calls without an answer") as failed:
        await models.chat.completions.create(model="tools", messages=broken)
    assert (failed.value.type, failed.value.code) == ("run_error", "ValueError")
    with pytest.raises(openai.APIError, match="tool calls without an answer"):
        await streamed(models, "tools", broken)


def _call(arguments: str) -> dict[str, Any]:
    return {"id": "c1", "type": "function", "function": {"name": "lookup", "arguments": arguments}}


@pytest.mark.parametrize(
    ("request_", "status", "message"),
    [
        ({"model": "nope"}, 404, "does not exist"),
        ({"model": "slow"}, 404, "does not exist"),
        ({"messages": []}, 422, "must not be empty"),
        ({"messages": [{"role": "clown", "content": "x"}]}, 422, "role"),
        ({"messages": [{"role": "tool", "content": "x"}]}, 422, "tool_call_id"),
        ({"messages": [{"role": "assistant", "tool_calls": [_call("{")]}]}, 422, "JSON object"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, 422, "`tools` are not taken"),
        ({"n": 2}, 422, "n:"),
        ({"extra_headers": {"X-Thread-Id": "nope"}}, 422, "must be a UUID"),
    ],
)
async def test_what_cannot_be_done_is_refused_in_the_form_of_openai(
    models: AsyncOpenAI, request_: dict[str, Any], status: int, message: str
) -> None:
    with pytest.raises(openai.APIStatusError, match=message) as refused:
        await models.chat.completions.create(**{"model": "chat", "messages": ASK, **request_})
    assert refused.value.status_code == status
    assert refused.value.type == "invalid_request_error"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_stops_its_run(
    models: AsyncOpenAI, client: LangGraphClient, until: Callable[..., Any], stream: bool
) -> None:
    thread = str(uuid4())
    # Its tool takes an hour: it would not end by itself.
    await client.threads.create(thread_id=thread, graph_id="tools")
    await client.threads.update_state(thread, {"seconds": 3600.0})
    leaving = models.with_options(timeout=5)

    async def ask() -> None:
        answer: Any = await leaving.chat.completions.create(
            model="tools", messages=ASK, stream=stream, extra_headers={"X-Thread-Id": thread}
        )
        if stream:
            async with answer:
                return

    if stream:
        await ask()
    else:
        with pytest.raises(openai.APITimeoutError):
            await ask()

    async def stopped() -> bool:
        return [run["status"] for run in await client.runs.list(thread)] == ["interrupted"]

    await until(stopped, deadline_s=60)
