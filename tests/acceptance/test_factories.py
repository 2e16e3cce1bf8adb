"""What a graph learns about its run, and that no run learns anything of another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import NotFoundError

from ..servers import GRAPHS, InterlockServer, prepare, running, steps

Until = Callable[..., Awaitable[Any]]
KEYS = {"ada": "key-of-ada", "ben": "key-of-ben", "cleo": "key-of-cleo"}
TENANTS = {"cleo": "elsewhere"}


@pytest.fixture
async def guarded(database_url: str, tmp_path: Path) -> AsyncIterator[InterlockServer]:
    """A server that knows two users by their keys."""
    config = "".join(
        f'[[auth.api_keys]]\nname = "{name}"\nsha256 = "{sha256(key.encode()).hexdigest()}"\n'
        f'tenant = "{TENANTS.get(name, "default")}"\nsubject = "{name}"\nroles = ["admin"]\n'
        for name, key in KEYS.items()
    )
    project = tmp_path / "project"
    project.mkdir()
    for file in GRAPHS.iterdir():
        if file.is_file():
            (project / file.name).write_bytes(file.read_bytes())
    with (project / "interlock.toml").open("a") as settings:
        settings.write(config)
    server = prepare(database_url, tmp_path / "run", project=project)
    with running(server):
        yield server


def client_of(server: InterlockServer, user: str) -> LangGraphClient:
    return get_client(url=server.url, api_key=KEYS[user])


async def test_factory_builds_each_run_for_its_user_and_configuration(guarded: InterlockServer) -> None:
    """O37: from the first request after the start on, and for several at once."""

    async def greeting(user: str, word: str) -> str:
        async with client_of(guarded, user) as client:
            values = await client.runs.wait(None, "fact", input={}, config={"configurable": {"word": word}})
            assert isinstance(values, dict)
            return values["greeting"]

    assert await greeting("ada", "good morning") == "good morning ada"
    wanted = [(user, word) for user in KEYS for word in ("hello", "goodbye", "see you")]
    assert await asyncio.gather(*(greeting(*pair) for pair in wanted)) == [f"{w} {u}" for u, w in wanted]


async def test_factory_is_told_when_no_run_is_on(guarded: InterlockServer) -> None:
    """O37: schemas, drawing and state reads carry another marker than a run."""
    async with client_of(guarded, "ada") as client:
        thread = (await client.threads.create())["thread_id"]
        await client.runs.wait(thread, "fact", input={})
        assistant = (await client.assistants.search(graph_id="fact"))[0]["assistant_id"]
        await client.assistants.get_schemas(assistant)
        await client.assistants.get_graph(assistant)
        await client.threads.get_state(thread)
        await client.threads.update_state(thread, {"greeting": "by hand"}, as_node="greet")

    opened = [
        line.split()[1:4] for t in (thread, "-") for line in steps(guarded, t) if line.startswith("open")
    ]
    assert ["threads.create_run", "run", "ada"] in opened
    assert {tuple(o[:2]) for o in opened} == {
        ("threads.create_run", "run"),
        ("threads.read", "look"),
        ("threads.update", "look"),
        ("assistants.read", "look"),
    }


async def test_factory_is_closed_after_each_run_also_when_it_is_cancelled(
    client: LangGraphClient, server: InterlockServer, until: Until
) -> None:
    """O37."""
    thread = (await client.threads.create())["thread_id"]
    await client.runs.wait(thread, "fact", input={})
    assert count(server, thread, "open") == count(server, thread, "close")

    run = await client.runs.create(thread, "fact", input={"seconds": 60})
    await until(lambda: count(server, thread, "open") == count(server, thread, "close") + 1)
    await client.runs.cancel(thread, run["run_id"], wait=True)
    await until(lambda: count(server, thread, "open") == count(server, thread, "close"))


def count(server: InterlockServer, thread: str, word: str) -> int:
    return len([line for line in steps(server, thread) if line.startswith(f"{word} threads.create_run")])


async def test_two_threads_of_one_graph_object_keep_apart(client: LangGraphClient) -> None:
    """O12: three questions on each, in turn, with a configuration of their own."""
    threads = [(await client.threads.create())["thread_id"] for _ in range(2)]
    for number in range(3):
        answers = await asyncio.gather(
            *(
                client.runs.wait(
                    thread,
                    "agent",
                    input={"messages": [{"type": "human", "content": f"{number} of {thread}"}]},
                    config={"tags": [thread], "configurable": {"colour": thread}},
                )
                for thread in threads
            )
        )
        for thread, values in zip(threads, answers, strict=True):
            assert isinstance(values, dict)
            texts = [message["content"] for message in values["messages"]]
            assert texts[::2] == [f"{n} of {thread}" for n in range(number + 1)]
            assert texts[1::2] == ["Red lorry, yellow lorry."] * (number + 1)


async def test_configuration_of_one_run_never_shows_in_another(client: LangGraphClient) -> None:
    """O12."""

    async def told(number: int) -> None:
        config: Any = {"tags": [f"tag-{number}"], "configurable": {"colour": str(number)}}
        values = await client.runs.wait(
            None, "ident", input={"told": {}}, config=config if number % 2 else None
        )
        assert isinstance(values, dict)
        assert values["told"].get("colour") == (str(number) if number % 2 else None)
        assert values["tags_told"] == ([f"tag-{number}"] if number % 2 else [])

    await asyncio.gather(*(told(number) for number in range(20)))


async def test_node_finds_graph_assistant_thread_and_run_in_its_configuration(
    client: LangGraphClient,
) -> None:
    """O61: a forged thread id gives way to the real one."""
    assistant = await client.assistants.create("ident", metadata={"origin": "assistant"})
    thread = (await client.threads.create())["thread_id"]
    run = await client.runs.create(
        thread,
        assistant["assistant_id"],
        input={"told": {}},
        config={
            "configurable": {"thread_id": "forged", "run_id": "forged", "colour": "red"},
            "recursion_limit": 33,
        },
    )
    values = await client.runs.join(thread, run["run_id"])

    ids = {
        "graph_id": "ident",
        "assistant_id": assistant["assistant_id"],
        "thread_id": thread,
        "run_id": run["run_id"],
    }
    assert values["told"] == ids | {"colour": "red"}
    assert ids.items() <= values["metadata_told"].items()
    assert values["metadata_told"]["origin"] == "assistant"
    assert values["limit_told"] == 33


async def test_id_of_another_owner_is_neither_taken_over_nor_told(guarded: InterlockServer) -> None:
    """O52: whoever creates a thread under a foreign id gets one of its own, and learns nothing."""
    async with client_of(guarded, "ada") as ada, client_of(guarded, "cleo") as cleo:
        thread = (await ada.threads.create(metadata={"owner": "ada"}))["thread_id"]
        await ada.runs.wait(thread, "abc", input={})
        with pytest.raises(NotFoundError):
            await cleo.threads.get(thread)
        with pytest.raises(httpx.HTTPStatusError, match="404"):
            await cleo.runs.wait(thread, "abc", input={})

        await cleo.threads.create(thread_id=thread, metadata={"owner": "cleo"})
        assert (await cleo.threads.get_state(thread))["values"] == {}
        assert await cleo.runs.list(thread) == []
        assert (await ada.threads.get(thread))["metadata"] != (await cleo.threads.get(thread))["metadata"]
        assert len(await ada.runs.list(thread)) == 1
