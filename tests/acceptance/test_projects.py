"""Projects of other people: where they lie, what else is in them, and what is broken in them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import psycopg
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.errors import InternalServerError

from ..servers import prepare, running

GRAPH = """
from typing import TypedDict
from langgraph.graph import END, START, StateGraph
{extra}
class State(TypedDict, total=False):
    name: str

builder = StateGraph(State)
builder.add_node("tell", lambda state: {{"name": {name!r}}})
builder.add_edge(START, "tell")
builder.add_edge("tell", END)
graph = builder.compile()
"""


def make_project(folder: Path, *, broken: str | None = None, count: int = 10, settings: str = "") -> Path:
    folder.mkdir()
    names = [f"g{n}" for n in range(count)]
    for name in names:
        extra = "import no_such_module_anywhere" if name == broken else ""
        (folder / f"{name}.py").write_text(GRAPH.format(name=name, extra=extra))
    graphs = {name: f"./{name}.py:graph" for name in names}
    (folder / "langgraph.json").write_text(json.dumps({"dependencies": ["."], "graphs": graphs}))
    (folder / "interlock.toml").write_text(settings)
    return folder


def test_broken_graph_is_named_with_file_and_module_and_the_start_is_refused(
    database_url: str, tmp_path: Path
) -> None:
    """O38: the default."""
    server = prepare(database_url, tmp_path / "run", project=make_project(tmp_path / "p", broken="g7"))
    server.start(wait=False)
    assert server.process is not None
    assert server.process.wait(30) != 0
    for word in ("g7", "g7.py", "no_such_module_anywhere"):
        assert word in server.log
    assert "Traceback" not in server.log


async def test_broken_graph_does_not_take_the_others_down_when_told_so(
    database_url: str, tmp_path: Path
) -> None:
    """O38: nine are served, the tenth says what is wrong with it, every time."""
    settings = '[graphs]\non_failure = "serve_rest"\n'
    project = make_project(tmp_path / "p", broken="g7", settings=settings)
    server = prepare(database_url, tmp_path / "run", project=project)
    with running(server):
        assert "no_such_module_anywhere" in server.log
        async with get_client(url=server.url, api_key=None) as client:
            good = [f"g{n}" for n in range(10) if n != 7]
            answers = await asyncio.gather(*(client.runs.wait(None, g, input={"name": ""}) for g in good * 5))
            assert [answer["name"] for answer in answers if isinstance(answer, dict)] == good * 5
            for _ in range(5):
                with pytest.raises(InternalServerError, match="no_such_module_anywhere") as failed:
                    await client.runs.create(None, "g7", input={"name": ""})
                assert "g7.py" in str(failed.value)


async def test_foreign_migration_files_in_the_working_folder_are_left_alone(
    database_url: str, tmp_path: Path
) -> None:
    """O45: files that other tools would pick up, and names like ours."""
    project = make_project(tmp_path / "p", count=1)
    (project / "alembic.ini").write_text("[alembic]\nscript_location = migrations\nsqlalchemy.url = x\n")
    (project / "migrations").mkdir()
    (project / "migrations" / "0001_threads.sql").write_text("CREATE TABLE stolen (id int);")
    (project / "migrations" / "env.py").write_text("raise SystemExit('picked up')")
    (project / "checkpoints").mkdir()
    (project / "checkpoints" / "migrations").mkdir()
    (project / "checkpoints" / "migrations" / "9999_stolen.sql").write_text("CREATE TABLE stolen (id int);")
    with psycopg.connect(database_url, autocommit=True) as connection:
        server = prepare(database_url, tmp_path / "run", project=project, cwd=project)
        with running(server):
            async with get_client(url=server.url, api_key=None) as client:
                assert await client.runs.wait(None, "g0", input={"name": ""}) == {"name": "g0"}
        assert connection.execute("SELECT to_regclass('stolen')").fetchone() == (None,)


async def test_project_runs_uninstalled_from_another_folder(database_url: str, tmp_path: Path) -> None:
    """O63: no package, no `pip install -e .`, and the server is not started from within."""
    project = make_project(tmp_path / "p", count=2)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    server = prepare(database_url, tmp_path / "run", project=project, cwd=elsewhere)
    with running(server):
        async with get_client(url=server.url, api_key=None) as client:
            assert await client.runs.wait(None, "g1", input={"name": ""}) == {"name": "g1"}
