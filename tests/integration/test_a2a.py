"""A2A as its official client speaks it, in both versions, and the letter of it where that client hides it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any
from uuid import uuid4

import httpx
import pytest
from a2a.client import A2ACardResolver, ClientConfig, ClientFactory
from a2a.client.client import Client
from a2a.types import (
    AgentCard,
    CancelTaskRequest,
    GetTaskRequest,
    Message,
    Part,
    Role,
    SendMessageRequest,
    StreamResponse,
    SubscribeToTaskRequest,
    Task,
    TaskState,
)
from a2a.utils.errors import (
    A2AError,
    InvalidParamsError,
    TaskNotCancelableError,
    TaskNotFoundError,
    UnsupportedOperationError,
)
from google.protobuf.json_format import MessageToDict, ParseDict

from .conftest import ServeApi, api_key
from .test_hostile_requests import BODIES

ANSWER = "Red lorry, yellow lorry."
VERSIONS = ["1.0", "0.3"]
KEYS = [api_key("one", "acme"), api_key("two", "globex"), api_key("look", "acme", "viewer")]


async def card_of(http: httpx.AsyncClient, agent: str) -> AgentCard:
    return await A2ACardResolver(http, f"http://api/a2a/{agent}").get_agent_card()


async def speaking(
    http: httpx.AsyncClient, agent: str = "chat", version: str = "1.0", *, streams: bool = False
) -> Client:
    """A client of one version: it chooses by what the card offers."""
    card = await card_of(http, agent)
    offered = [one for one in card.supported_interfaces if one.protocol_version == version]
    del card.supported_interfaces[:]
    card.supported_interfaces.extend(offered)
    return ClientFactory(ClientConfig(httpx_client=http, streaming=streams)).create(card)


def words(text: str, **names: str) -> Message:
    return Message(message_id=uuid4().hex, role=Role.ROLE_USER, parts=[Part(text=text)], **names)


def data(value: dict[str, Any], **names: str) -> Message:
    part = ParseDict({"data": value}, Part())
    return Message(message_id=uuid4().hex, role=Role.ROLE_USER, parts=[part], **names)


async def events(client: Client, message: Message, **more: Any) -> list[StreamResponse]:
    sending = client.send_message(SendMessageRequest(message=message, **more))
    return [event async for event in sending]


async def sent(client: Client, message: Message, **more: Any) -> Task:
    [answer] = await events(client, message, **more)
    return answer.task


async def got(client: Client, task: Task) -> Task:
    """A task as it is told later, at the time of the first telling."""
    later = await client.get_task(GetTaskRequest(id=task.id))
    later.status.timestamp.CopyFrom(task.status.timestamp)
    return later


def text_of(task: Task) -> str:
    return "".join(part.text for artifact in task.artifacts for part in artifact.parts)


async def rpc(
    http: httpx.AsyncClient, method: str, params: Any = None, agent: str = "chat", **headers: str
) -> Any:
    message = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params or {}}
    answer = await http.post(f"/a2a/{agent}", json=message, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.json()["id"] == 7
    return answer.json()


async def test_a_card_tells_where_and_how_its_assistant_is_spoken_to(http: httpx.AsyncClient) -> None:
    card = await card_of(http, "chat")
    assert (card.name, card.description) == ("chat", "Streams the words of a fixed answer")
    assert [one.protocol_version for one in card.supported_interfaces] == VERSIONS
    assert card.supported_interfaces[0].url.startswith("http://api/a2a/")
    assert card.default_input_modes == ["text/plain", "application/json"]
    plain = await http.get("/.well-known/agent-card.json", params={"assistant_id": "slow"})
    assert plain.json()["defaultInputModes"] == ["application/json"]
    assert (await http.get("/.well-known/agent-card.json")).status_code == 400
    missing = await http.get("/.well-known/agent-card.json", params={"assistant_id": "nope"})
    assert (missing.status_code, missing.json()["detail"]) == (404, "Assistant 'nope' not found")


async def test_a_card_names_the_key_that_is_asked_for_and_the_prefix_of_every_path(
    serve_api: ServeApi,
) -> None:
    async with serve_api(auth={"api_keys": KEYS}, http={"mount_prefix": "/agents"}) as http:
        http.headers["x-api-key"] = "one"
        card = await A2ACardResolver(http, "http://api/agents/a2a/chat").get_agent_card()
        assert card.security_schemes["apiKey"].api_key_security_scheme.name == "x-api-key"
        assert card.supported_interfaces[0].url.startswith("http://api/agents/a2a/")


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_message_is_answered_by_a_task_and_a_context_keeps_its_conversation(
    working_http: httpx.AsyncClient, version: str
) -> None:
    client = await speaking(working_http, version=version)
    first = await sent(client, words("Which lorry?"))
    assert first.status.state == TaskState.TASK_STATE_COMPLETED
    assert text_of(first) == ANSWER
    assert [one.role for one in first.history] == [Role.ROLE_USER, Role.ROLE_AGENT]
    again = await sent(client, words("And?", context_id=first.context_id))
    assert (again.context_id, again.id == first.id) == (first.context_id, False)
    assert [one.parts[0].text for one in again.history] == ["And?", ANSWER]
    state = (await working_http.get(f"/threads/{first.context_id}/state")).json()
    assert [m["content"] for m in state["values"]["messages"]] == ["Which lorry?", ANSWER, "And?", ANSWER]
    assert await got(client, first) == first


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_stream_shows_the_task_then_what_is_said_then_the_answer_and_its_end(
    working_http: httpx.AsyncClient, version: str
) -> None:
    client = await speaking(working_http, version=version, streams=True)
    seen = await events(client, words("Which lorry?"))
    kinds = [event.WhichOneof("payload") for event in seen]
    assert (kinds[0], kinds[-2:]) == ("task", ["artifact_update", "status_update"])
    assert seen[0].task.history[0].parts[0].text == "Which lorry?"
    said = [
        e.status_update.status.message.parts[0].text
        for e in seen
        if e.status_update.status.HasField("message")
    ]
    assert said[-1] == ANSWER
    assert all(later.startswith(earlier) for earlier, later in pairwise(said))
    assert seen[-2].artifact_update.artifact.parts[0].text == ANSWER
    assert seen[-1].status_update.status.state == TaskState.TASK_STATE_COMPLETED


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_task_that_asks_needs_input_and_the_next_message_goes_on_with_it(
    working_http: httpx.AsyncClient, version: str
) -> None:
    client = await speaking(working_http, "hitl", version)
    asking = await sent(client, data({"before": 4}))
    assert asking.status.state == TaskState.TASK_STATE_INPUT_REQUIRED
    question, asked = asking.status.message.parts
    assert "go on?" in question.text
    assert MessageToDict(asked)["data"]["interrupts"][0]["value"] == {"question": "go on?", "before": 5}
    named = {"task_id": asking.id, "context_id": asking.context_id}
    done = await sent(client, words("yes", **named))
    assert (done.id, done.status.state) == (asking.id, TaskState.TASK_STATE_COMPLETED)
    [part] = done.artifacts[0].parts
    assert MessageToDict(part)["data"] == {"before": 5, "answer": "yes", "after": 1}
    assert await got(client, done) == done
    with pytest.raises(UnsupportedOperationError, match="waits for nothing"):
        await sent(client, words("again", **named))


async def test_a_context_is_enough_to_answer_and_an_answer_from_elsewhere_ends_the_task_too(
    working_http: httpx.AsyncClient,
) -> None:
    client = await speaking(working_http, "hitl", streams=True)
    asking = (await events(client, data({"before": 0})))[-1].status_update
    assert asking.status.state == TaskState.TASK_STATE_INPUT_REQUIRED
    seen = await events(client, data({"sure": True}, context_id=asking.context_id))
    assert {e.status_update.task_id for e in seen[1:-2]} == {seen[0].task.id} == {asking.task_id}
    elsewhere = (await events(client, data({"before": 0})))[-1].status_update
    resume = {"assistant_id": "hitl", "command": {"resume": "from the console"}}
    await working_http.post(f"/threads/{elsewhere.context_id}/runs/wait", json=resume)
    task = await client.get_task(GetTaskRequest(id=elsewhere.task_id))
    assert task.status.state == TaskState.TASK_STATE_COMPLETED


async def test_several_questions_are_answered_by_their_ids_and_never_by_chance(
    working_http: httpx.AsyncClient,
) -> None:
    """O18: with two interrupts waiting a bare answer is refused, and each node gets its own."""
    client = await speaking(working_http, "par")
    asking = await sent(client, data({"joined": ""}))
    asked = MessageToDict(asking.status.message.parts[1])["data"]["interrupts"]
    ids = {one["value"]["side"]: one["id"] for one in asked}
    with pytest.raises(InvalidParamsError, match=f"2 interrupts wait.*{asked[0]['id']}"):
        await sent(client, words("both", context_id=asking.context_id))
    by_id = {ids["left"]: "L", ids["right"]: "R"}
    done = await sent(client, data(by_id, context_id=asking.context_id))
    assert MessageToDict(done.artifacts[0].parts[0])["data"]["joined"] == "L/R"


async def test_a_review_is_decided_in_words_or_by_data_and_nothing_else_is_taken_for_a_yes(
    working_http: httpx.AsyncClient,
) -> None:
    config = {"graph_id": "tools", "config": {"budget": {"steps": 1}}}
    agent = (await working_http.post("/assistants", json=config)).json()["assistant_id"]
    client = await speaking(working_http, agent)
    asking = await sent(client, words("Which lorry?"))
    assert "`approve`" in asking.status.message.parts[0].text
    with pytest.raises(InvalidParamsError, match="waits for a decision"):
        await sent(client, words("well, yes", context_id=asking.context_id))
    still = await sent(client, words("approve", context_id=asking.context_id))
    assert (still.id, still.status.state) == (asking.id, TaskState.TASK_STATE_INPUT_REQUIRED)
    grant = {"type": "edit", "edited_action": {"name": "continue_run", "args": {"steps": 9}}}
    done = await sent(client, data({"decisions": [grant]}, context_id=asking.context_id))
    assert (done.status.state, text_of(done)) == (TaskState.TASK_STATE_COMPLETED, ANSWER)


async def test_words_that_reject_may_say_why(working_http: httpx.AsyncClient) -> None:
    # The tool takes whole numbers only, and the official client sends 1900.0.
    refund = {"name": "order_refund", "args": {"order_id": "A-1001", "amount_cents": 1900, "reason": "late"}}
    client = await speaking(working_http, "desk")
    asking = await sent(client, data({"calls": [refund]}))
    assert "approve `order_refund`" in asking.status.message.parts[0].text
    await sent(client, words("Reject: not this customer", task_id=asking.id))
    state = (await working_http.get(f"/threads/{asking.context_id}/state")).json()
    assert "not this customer" in state["values"]["messages"][-1]["content"]


async def test_a_breakpoint_is_passed_by_a_word_or_with_what_is_to_be_added(
    working_http: httpx.AsyncClient,
) -> None:
    client = await speaking(working_http, "tools")
    stops = {
        "assistant_id": "tools",
        "input": {"messages": [{"role": "user", "content": "Which lorry?"}]},
        "interrupt_before": ["tools"],
        "if_not_exists": "create",
    }
    for answer in (words, lambda _, **names: data({"seconds": 0}, **names)):
        thread = str(uuid4())
        made = await working_http.post(f"/threads/{thread}/runs/wait", json=stops)
        name = f"{thread}:{made.headers['content-location'].rpartition('/')[2]}"
        asking = await client.get_task(GetTaskRequest(id=name))
        assert asking.status.state == TaskState.TASK_STATE_INPUT_REQUIRED
        assert "Say `continue`" in asking.status.message.parts[0].text
        done = await sent(client, answer("continue", context_id=thread))
        assert (done.id, text_of(done)) == (name, ANSWER)


async def test_a_run_that_fails_is_a_failed_task_that_names_the_exception(
    working_http: httpx.AsyncClient,
) -> None:
    task = await sent(await speaking(working_http, "err"), data({"own": True}))
    assert task.status.state == TaskState.TASK_STATE_FAILED
    assert task.status.message.parts[0].text == "LorryError: no petrol left"


async def test_a_graph_without_messages_takes_its_input_as_data_and_no_words(
    working_http: httpx.AsyncClient,
) -> None:
    client = await speaking(working_http, "slow")
    with pytest.raises(InvalidParamsError, match="has no `messages`"):
        await sent(client, words("hello"))
    done = await sent(client, data({"steps": 2, "seconds": 0.01}))
    assert MessageToDict(done.artifacts[0].parts[0])["data"]["done"] == [1, 2]


async def test_whoever_does_not_wait_gets_the_task_at_once_and_cancels_it_once(
    working_http: httpx.AsyncClient,
) -> None:
    client = await speaking(working_http, "never")
    config = {"return_immediately": True}
    task = await sent(client, words("hello"), configuration=config)
    assert task.status.state in (TaskState.TASK_STATE_SUBMITTED, TaskState.TASK_STATE_WORKING)
    with pytest.raises(InvalidParamsError, match="already running"):
        await sent(client, words("and?", context_id=task.context_id))
    with pytest.raises(UnsupportedOperationError, match="waits for nothing"):
        await sent(client, words("and?", task_id=task.id))
    canceled = await client.cancel_task(CancelTaskRequest(id=task.id))
    assert canceled.status.state == TaskState.TASK_STATE_CANCELED
    with pytest.raises(TaskNotCancelableError):
        await client.cancel_task(CancelTaskRequest(id=task.id))


@pytest.mark.parametrize("version", VERSIONS)
async def test_whoever_subscribes_again_sees_the_task_to_its_end(
    working_http: httpx.AsyncClient, version: str
) -> None:
    client = await speaking(working_http, "slow", version, streams=True)
    plain = await speaking(working_http, "slow", version)
    begun = await sent(plain, data({"steps": 3, "seconds": 0.3}), configuration={"return_immediately": True})
    again = client.subscribe(SubscribeToTaskRequest(id=begun.id))
    seen = [event async for event in again]
    assert seen[0].task.id == begun.id
    assert seen[-1].status_update.status.state == TaskState.TASK_STATE_COMPLETED
    with pytest.raises(UnsupportedOperationError, match="completed"):
        [event async for event in client.subscribe(SubscribeToTaskRequest(id=begun.id))]


async def test_files_become_blocks_of_the_message(working_http: httpx.AsyncClient) -> None:
    parts = [
        {"kind": "text", "text": "What is this?"},
        {"kind": "file", "file": {"bytes": "aGk=", "mimeType": "image/png", "name": "a.png"}},
        {"url": "https://example.org/b.pdf", "mediaType": "application/pdf"},
    ]
    message = {"messageId": "m", "role": "user", "parts": parts}
    task = (await rpc(working_http, "message/send", {"message": message}))["result"]
    state = (await working_http.get(f"/threads/{task['contextId']}/state")).json()
    text, image, file = state["values"]["messages"][0]["content"]
    assert text == {"type": "text", "text": "What is this?"}
    assert (image["type"], image["base64"], image["mime_type"]) == ("image", "aGk=", "image/png")
    assert (file["type"], file["url"]) == ("file", "https://example.org/b.pdf")


async def test_the_history_is_as_long_as_is_asked_for(working_http: httpx.AsyncClient) -> None:
    message = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "hello"}]}
    for length, texts in ((0, []), (1, [ANSWER]), (9, ["hello", ANSWER])):
        wanted = {"message": message, "configuration": {"historyLength": length}}
        task = (await rpc(working_http, "SendMessage", wanted))["result"]["task"]
        assert [one["parts"][0]["text"] for one in task["history"]] == texts


async def test_what_is_not_there_has_the_error_of_the_protocol(http: httpx.AsyncClient) -> None:
    message = {"messageId": "m", "role": "user", "parts": [{"kind": "text", "text": "x"}]}
    push = {"message": message, "configuration": {"pushNotificationConfig": {"url": "https://example.org"}}}
    for method, params, code in [
        ("tasks/nope", {}, -32601),
        ("message/send", {}, -32602),
        ("message/send", {"message": message | {"parts": []}}, -32602),
        ("message/send", {"message": message | {"parts": [{"kind": "nope"}]}}, -32602),
        ("message/send", {"message": message | {"contextId": "nope"}}, -32602),
        ("message/send", {"message": message | {"taskId": "nope"}}, -32001),
        ("message/send", push, -32003),
        ("tasks/get", {"id": f"{uuid4()}:{uuid4()}"}, -32001),
        ("tasks/pushNotificationConfig/set", {}, -32003),
        ("ListTasks", {}, -32004),
        ("agent/getAuthenticatedExtendedCard", {}, -32007),
    ]:
        error = (await rpc(http, method, params))["error"]
        assert (error["code"], bool(error["message"])) == (code, True), (method, error)
    unknown = await rpc(http, "message/send", {"message": message}, agent="nope")
    assert unknown["error"]["code"] == -32602
    old = {"a2a-version": "7.0"}
    assert (await rpc(http, "GetTask", {"id": "x"}, **old))["error"]["code"] == -32009
    [told] = (await rpc(http, "GetTask", {"id": "x"}))["error"]["data"]
    assert (told["reason"], told["domain"]) == ("TASK_NOT_FOUND", "a2a-protocol.org")


async def test_a_task_of_another_tenant_or_another_agent_is_like_one_that_is_missing(
    serve_api: ServeApi,
) -> None:
    async with serve_api(worker=True, auth={"api_keys": KEYS}) as http:
        http.headers["x-api-key"] = "one"
        ours = await sent(await speaking(http), words("hello"))
        with pytest.raises(TaskNotFoundError):
            await (await speaking(http, "agent")).get_task(GetTaskRequest(id=ours.id))
        http.headers["x-api-key"] = "two"
        client = await speaking(http)
        for doing in (
            client.get_task(GetTaskRequest(id=ours.id)),
            client.cancel_task(CancelTaskRequest(id=ours.id)),
        ):
            with pytest.raises(TaskNotFoundError):
                await doing
        with pytest.raises(TaskNotFoundError):
            await sent(client, words("mine", task_id=ours.id))
        own = await sent(client, words("mine", context_id=ours.context_id))
        assert len(own.history) == 2


async def test_who_may_only_look_gets_tasks_but_begins_and_stops_none(serve_api: ServeApi) -> None:
    async with serve_api(worker=True, auth={"api_keys": KEYS}) as http:
        http.headers["x-api-key"] = "one"
        ours = await sent(await speaking(http), words("hello"))
        http.headers["x-api-key"] = "look"
        client = await speaking(http)
        assert await got(client, ours) == ours
        for doing in (sent(client, words("x")), client.cancel_task(CancelTaskRequest(id=ours.id))):
            with pytest.raises(A2AError, match="Forbidden"):
                await doing
        http.headers["x-api-key"] = "wrong"
        refused = await http.post("/a2a/chat", json={"jsonrpc": "2.0", "id": 1, "method": "tasks/get"})
        assert (refused.status_code, refused.json()["jsonrpc"]) == (401, "2.0")


@pytest.fixture
def odd_bodies() -> list[bytes]:
    """What is JSON-RPC, or nearly so, and no message that anybody means."""
    message = b'{"messageId":"m","role":"user","parts":[%b]}'
    parts = [
        b"1",
        b"{}",
        b'{"kind":"text","text":"\\u0000"}',
        b'{"kind":"text","text":"\\ud800"}',
        b'{"kind":"data","data":[1]}',
        b'{"kind":"data","data":{"messages":5}}',
        b'{"kind":"file","file":{}}',
        b'{"text":"x","url":"y"}',
    ]
    call = b'{"jsonrpc":"2.0","id":1,"method":"%b","params":%b}'
    return [
        *BODIES,
        *(call % (b"message/send", b'{"message":%b}' % (message % part)) for part in parts),
        call % (b"SendMessage", b'{"message":{"messageId":"\\u0000","role":"user","parts":[{"text":"x"}]}}'),
        call % (b"GetTask", b'{"id":"\\u0000:\\u0000"}'),
        call % (b"GetTask", b'{"id":5}'),
        call % (b"GetTask", b"[]"),
        call % (b"\\u0000", b"{}"),
        b'{"jsonrpc":"2.0","id":{},"method":"tasks/get"}',
        b'[{"jsonrpc":"2.0","id":1,"method":"tasks/get"}]',
    ]


async def test_no_hostile_body_is_a_fault_of_ours(
    working_http: httpx.AsyncClient, odd_bodies: list[bytes]
) -> None:
    for content in odd_bodies:
        answer = await working_http.post("/a2a/chat", content=content)
        assert answer.status_code < 500, (content[:60], answer.text)
        if answer.content:
            assert answer.json()["jsonrpc"] == "2.0", content[:60]
            assert answer.json().get("error", {}).get("code") != -32603, content[:60]
    null = await working_http.post("/a2a/%00", json={"jsonrpc": "2.0", "id": 1, "method": "tasks/get"})
    assert null.status_code < 500


async def test_it_can_be_turned_off(serve_api: ServeApi) -> None:
    async with serve_api(http={"disable_a2a": True}) as http:
        for path in (
            "/a2a/chat/.well-known/agent-card.json",
            "/.well-known/agent-card.json?assistant_id=chat",
        ):
            assert (await http.get(path)).status_code == 404
        assert (await http.post("/a2a/chat", json={})).status_code == 404
