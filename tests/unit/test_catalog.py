from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from langgraph.graph.state import CompiledStateGraph

from interlock.server.runs.catalog import (
    EXECUTION_KEY,
    Catalog,
    CatalogError,
    GraphFailed,
    GraphNotFound,
    load_catalog,
)
from interlock.server.runs.modules import foreign_environment
from interlock.server.runs.project import load_project
from interlock.tools.policy.permissions import Principal

ALICE = Principal(tenant="t", subject="alice", permissions=frozenset({"read"}), attributes={"team": "blue"})
BOB = Principal(tenant="t", subject="bob")
NOBODY = Principal(tenant="default", subject="anonymous")

PRELUDE = """
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Optional, TypedDict
from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph_sdk.runtime import ServerRuntime

class State(TypedDict, total=False):
    text: str

def build(name="node"):
    builder = StateGraph(State)
    builder.add_node(name, lambda state: {"text": name})
    builder.add_edge(START, name)
    builder.add_edge(name, END)
    return builder
"""

Make = Callable[..., Catalog]


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Make]:
    """Write files and load their graphs: `project({"a.py": source}, {"a": "./a.py:graph"})`."""
    # Projects of other tests in this process would take the plain name of the modules.
    others = {n: sys.modules.pop(n) for n in list(sys.modules) if n.startswith("interlock_project")}
    path, modules = list(sys.path), set(sys.modules)

    def make(
        files: dict[str, str], graphs: dict[str, Any], *, on_failure: str = "refuse", **config: Any
    ) -> Catalog:
        for name, source in files.items():
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(dedent(source))
        (tmp_path / "langgraph.json").write_text(json.dumps({"graphs": graphs} | config))
        return load_catalog(load_project(tmp_path / "langgraph.json", {}), on_failure=on_failure)

    yield make
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        origin = getattr(sys.modules[name], "__file__", None)
        if name.startswith("interlock_project") or (origin and Path(origin).is_relative_to(tmp_path)):
            del sys.modules[name]
    sys.modules.update(others)


async def nodes(catalog: Catalog, graph_id: str, principal: Principal = NOBODY, **options: Any) -> list[str]:
    """The nodes of a graph as a run would get it."""
    given: dict[str, Any] = {"config": {}, "access": "threads.create_run"} | options
    async with catalog.open(graph_id, principal=principal, **given) as graph:
        assert isinstance(graph, CompiledStateGraph)
        return [name for name in graph.nodes if name != "__start__"]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("graph = build().compile()", "node"),
        ("graph = build()", "node"),
        ("def graph(): return build()", "node"),
        ("def graph(config: RunnableConfig): return build(config['configurable']['name']).compile()", "n1"),
        ("def graph(config: 'RunnableConfig | None'): return build(config['configurable']['name'])", "n1"),
        ("def graph(config): return build(config['configurable']['name'])", "n1"),
        ("def graph(anything: dict): return build(anything['configurable']['name'])", "n1"),
        ("def graph(c: RunnableConfig, limit: int = 3): return build(c['configurable']['name'])", "n1"),
        ("async def graph(rt: ServerRuntime): return build(rt.ensure_user().identity).compile()", "alice"),
        ("def graph(rt: ServerRuntime[dict]): return build(rt.execution_runtime.context['k'])", "v"),
        ("def graph(c: RunnableConfig, r: ServerRuntime): return build(r.access_context[:7])", "threads"),
        ("class M:\n    def __call__(self, c): return build(c['configurable']['name'])\ngraph = M()", "n1"),
        ("class Make:\n    async def __call__(self): return build()\ngraph = Make()", "node"),
        ("async def graph():\n    yield build()", "node"),
        ("def graph():\n    yield build().compile()", "node"),
        ("@asynccontextmanager\nasync def graph(c: dict):\n    yield build(c['configurable']['name'])", "n1"),
        ("@contextmanager\ndef graph():\n    yield build()", "node"),
        ("class Holder:\n    inner = build()\ngraph = Holder", "node"),
    ],
)  # fmt: skip
async def test_every_documented_form_of_a_graph_is_opened(project: Make, source: str, found: str) -> None:
    attribute = "graph.inner" if "Holder" in source else "graph"
    catalog = project({"a.py": PRELUDE + source}, {"a": f"./a.py:{attribute}"})
    config: Any = {"configurable": {"name": "n1"}}
    assert await nodes(catalog, "a", ALICE, config=config, context={"k": "v"}) == [found]


async def test_an_entrypoint_is_a_graph(project: Make) -> None:
    source = """
    from langgraph.func import entrypoint

    @entrypoint()
    def graph(text: str) -> str:
        return text.upper()
    """
    catalog = project({"a.py": source}, {"a": "./a.py:graph"})
    async with catalog.open("a", config={}, access="threads.create_run", principal=NOBODY) as graph:
        assert await graph.ainvoke("x") == "X"


async def test_annotations_that_are_text_are_understood(project: Make) -> None:
    source = (
        "from __future__ import annotations\n"
        + dedent(PRELUDE)
        + "def graph(r: ServerRuntime): return build()"
    )
    assert await nodes(project({"a.py": source}, {"a": "./a.py:graph"}), "a") == ["node"]


async def test_the_context_of_a_run_arrives_in_its_declared_type(project: Make) -> None:
    source = """
    @dataclass
    class Context:
        name: str

    def graph(runtime: ServerRuntime[Context]):
        return build(runtime.execution_runtime.context.name)
    """
    catalog = project({"a.py": PRELUDE + dedent(source)}, {"a": "./a.py:graph"})
    assert await nodes(catalog, "a", context={"name": "typed"}) == ["typed"]


async def test_a_compiled_graph_is_the_same_for_every_run_and_a_factory_makes_another(project: Make) -> None:
    source = PRELUDE + "one = build().compile()\ndef each(): return build()"
    catalog = project({"a.py": source}, {"one": "./a.py:one", "each": "./a.py:each"})

    async def opened(graph_id: str) -> Any:
        async with catalog.open(graph_id, config={}, access="threads.create_run", principal=NOBODY) as graph:
            return graph

    assert await opened("one") is await opened("one")
    assert await opened("each") is not await opened("each")


async def test_a_factory_sees_the_user_and_the_config_of_each_run(project: Make) -> None:
    source = """
    def graph(config: RunnableConfig, runtime: ServerRuntime):
        found = config["configurable"]
        user = found.get("langgraph_auth_user")
        team = user["team"] if user is not None and "team" in user else "-"
        told = runtime.user and runtime.user.identity
        return build(f"{found.get('langgraph_auth_user_id')} {told} {team} {found['k']}")
    """
    catalog = project({"a.py": PRELUDE + dedent(source)}, {"a": "./a.py:graph"})
    config = lambda k: {"configurable": {"k": k}}  # noqa: E731
    assert await nodes(catalog, "a", ALICE, config=config(1)) == ["alice alice blue 1"]
    assert await nodes(catalog, "a", BOB, config=config(2)) == ["bob bob - 2"]
    assert await nodes(catalog, "a", NOBODY, config=config(3)) == ["None None - 3"]


async def test_a_look_at_a_graph_says_that_no_run_follows(project: Make) -> None:
    source = f"""
    def graph(config: RunnableConfig, runtime: ServerRuntime):
        running = runtime.execution_runtime is not None
        assert config["configurable"]["{EXECUTION_KEY}"] is running
        return build(f"{{runtime.access_context}} {{running}}")
    """
    catalog = project({"a.py": PRELUDE + dedent(source)}, {"a": "./a.py:graph"})
    assert await nodes(catalog, "a", access="threads.create_run") == ["threads.create_run True"]
    assert await nodes(catalog, "a", access="threads.read") == ["threads.read False"]
    assert await nodes(catalog, "a", access="assistants.read") == ["assistants.read False"]


async def test_a_factory_does_not_change_the_config_of_others(project: Make) -> None:
    source = PRELUDE + "def graph(config: RunnableConfig):\n    config['tags'] = ['mine']\n    return build()"
    catalog = project({"a.py": source}, {"a": "./a.py:graph"})
    config: Any = {"configurable": {}}
    await nodes(catalog, "a", config=config)
    assert config == {"configurable": {}}


CLOSING = """
events = []

@asynccontextmanager
async def graph():
    events.append("open")
    try:
        yield build()
    except BaseException as error:
        events.append(type(error).__name__)
        raise
    finally:
        events.append("close")
"""


async def test_a_factory_is_closed_after_its_run(project: Make) -> None:
    catalog = project({"a.py": PRELUDE + CLOSING}, {"a": "./a.py:graph"})
    await nodes(catalog, "a")
    assert sys.modules["interlock_project.a"].events == ["open", "close"]


async def test_a_factory_is_closed_when_its_run_is_cancelled(project: Make) -> None:
    catalog = project({"a.py": PRELUDE + CLOSING}, {"a": "./a.py:graph"})
    opened = asyncio.Event()

    async def run() -> None:
        async with catalog.open("a", config={}, access="threads.create_run", principal=NOBODY):
            opened.set()
            await asyncio.Event().wait()

    running = asyncio.create_task(run())
    await opened.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert sys.modules["interlock_project.a"].events == ["open", "CancelledError", "close"]


async def test_an_error_of_the_run_reaches_the_factory_and_the_caller(project: Make) -> None:
    catalog = project({"a.py": PRELUDE + CLOSING}, {"a": "./a.py:graph"})
    with pytest.raises(KeyError):
        async with catalog.open("a", config={}, access="threads.create_run", principal=NOBODY):
            raise KeyError("x")
    assert sys.modules["interlock_project.a"].events == ["open", "KeyError", "close"]


async def test_a_failing_factory_fails_the_run_with_its_own_error_and_a_look_with_ours(project: Make) -> None:
    catalog = project({"a.py": PRELUDE + "def graph(): raise ValueError('no model')"}, {"a": "./a.py:graph"})
    with pytest.raises(ValueError, match="no model"):
        await nodes(catalog, "a")
    with pytest.raises(GraphFailed, match=r"'a' failed: ValueError: no model"):
        await nodes(catalog, "a", access="assistants.read")


async def test_a_factory_that_makes_something_else_is_reported(project: Make) -> None:
    catalog = project({"a.py": "def graph(): return 3"}, {"a": "./a.py:graph"})
    with pytest.raises(GraphFailed, match="made a int, not a graph"):
        await nodes(catalog, "a", access="assistants.read")


async def test_a_synchronous_factory_may_block_and_run_a_loop_of_its_own(project: Make) -> None:
    source = (
        PRELUDE + "import asyncio\ndef graph(): return asyncio.run(make())\nasync def make(): return build()"
    )
    assert await nodes(project({"a.py": source}, {"a": "./a.py:graph"}), "a") == ["node"]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import no_such_module", ["ModuleNotFoundError", "no_such_module", "at a.py:1"]),
        ("x = 1\n1 / 0", ["ZeroDivisionError", "at a.py:2"]),
        ("def f(:\n", ["SyntaxError", "a.py, line 1"]),
        ("import sys; sys.exit('bye')", ["SystemExit", "bye"]),
        ("other = 1", ["there is no `graph`"]),
        (PRELUDE + "agent = build().compile()", ["there is no `graph` in it; it has `agent`"]),
        ("graph = 3", ["it is a int"]),
        ("def graph(user_id): return user_id\ndef x(): ...", []),
        ("def graph(a: int): ...", ["parameter `a`"]),
        ("def graph(config, other): ...", ["parameter `other`"]),
    ],
)
def test_a_graph_that_cannot_load_is_reported_by_name_file_and_cause(
    project: Make, source: str, words: list[str]
) -> None:
    if not words:
        project({"a.py": source}, {"a": "./a.py:graph"})
        return
    with pytest.raises(CatalogError) as refused:
        project({"a.py": source}, {"a": "./a.py:graph"})
    for word in ["graph 'a' (./a.py)", *words]:
        assert word in str(refused.value)


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        ("./missing.py:graph", "no such file"),
        ("missing.module:graph", "No module named 'missing'"),
        ("./agent.ts:graph", "JavaScript"),
    ],
)
def test_a_graph_that_is_nowhere_is_reported(project: Make, spec: str, word: str) -> None:
    with pytest.raises(CatalogError, match=word):
        project({}, {"a": spec})


async def test_the_rest_is_served_when_told_so_and_the_failed_one_always_says_why(project: Make) -> None:
    catalog = project(
        {"good.py": PRELUDE + "graph = build()", "bad.py": "import no_such_module"},
        {"good": "./good.py:graph", "bad": "./bad.py:graph"},
        on_failure="serve_rest",
    )
    assert catalog.graph_ids == ("good",)
    assert catalog.failures["bad"].file == "./bad.py"
    assert await nodes(catalog, "good") == ["node"]
    for _ in range(3):
        with pytest.raises(GraphFailed, match=r"graph 'bad' \(./bad\.py\): .*no_such_module"):
            await nodes(catalog, "bad")
    with pytest.raises(GraphNotFound, match=r"'other' not found. Expected one of: \['good'\]"):
        await nodes(catalog, "other")


def test_a_server_without_any_working_graph_does_not_start(project: Make) -> None:
    with pytest.raises(CatalogError):
        project({"bad.py": "1 / 0"}, {"bad": "./bad.py:graph"}, on_failure="serve_rest")


async def test_200_parallel_first_requests_find_the_graph(project: Make) -> None:
    graphs = {f"g{n}": f"./g{n}.py:graph" for n in range(10)}
    catalog = project({f"g{n}.py": PRELUDE + f"def graph(): return build('n{n}')" for n in range(10)}, graphs)
    found = await asyncio.gather(*(nodes(catalog, f"g{n % 10}") for n in range(200)))
    assert found == [[f"n{n % 10}"] for n in range(200)]


def test_a_description_is_kept(project: Make) -> None:
    catalog = project(
        {"a.py": PRELUDE + "graph = build()"}, {"a": {"path": "./a.py:graph", "description": "D"}}
    )
    assert catalog.default_content("a").description == "D"


async def test_relative_imports_work_with_and_without_a_package(project: Make) -> None:
    files = {
        "loose/graph.py": "from .part import graph",
        "loose/part.py": PRELUDE + "graph = build('loose')",
        "pack/__init__.py": "",
        "pack/deep/__init__.py": "",
        "pack/deep/graph.py": "from ..part import graph\nimport pack.part as p\nassert p.graph is graph",
        "pack/part.py": PRELUDE + "graph = build('package').compile()",
    }
    catalog = project(files, {"l": "./loose/graph.py:graph", "p": "./pack/deep/graph.py:graph"})
    assert await nodes(catalog, "l") == ["loose"]
    assert await nodes(catalog, "p") == ["package"]


async def test_two_files_of_one_name_and_their_neighbours_of_one_name_keep_apart(project: Make) -> None:
    files = {f"{n}/graph.py": PRELUDE + "from names import NAME\ngraph = build(NAME)" for n in "ab"}
    files |= {f"{n}/names.py": f"NAME = '{n}'" for n in "ab"}
    catalog = project(files, {n: f"./{n}/graph.py:graph" for n in "ab"})
    assert await nodes(catalog, "a") == ["a"]
    assert await nodes(catalog, "b") == ["b"]


@pytest.mark.parametrize("name", ["tools", "server", "graphs", "checkpoints", "evals"])
async def test_packages_of_the_project_named_like_ours_are_theirs(project: Make, name: str) -> None:
    files = {
        f"{name}/__init__.py": "",
        f"{name}/thing.py": PRELUDE + "graph = build('theirs')",
        "agent.py": f"from {name}.thing import graph",
    }
    catalog = project(files, {"a": "./agent.py:graph", "b": f"./{name}/thing.py:graph"}, dependencies=["."])
    assert await nodes(catalog, "a") == ["theirs"]
    assert await nodes(catalog, "b") == ["theirs"]


async def test_a_module_name_of_a_dependency_works(project: Make) -> None:
    files = {"lib/src/pkg/__init__.py": "", "lib/src/pkg/mod.py": PRELUDE + "graph = build('pkg')"}
    catalog = project(files, {"a": "pkg.mod:graph"}, dependencies=["./lib"])
    assert await nodes(catalog, "a") == ["pkg"]


async def test_a_private_module_has_the_same_name_wherever_the_project_lies(project: Make) -> None:
    """Stored state names the classes of the module."""
    files = {"my-agents/agent.v2.py": PRELUDE + "graph = build(State.__module__)"}
    catalog = project(files, {"a": "./my-agents/agent.v2.py:graph"})
    assert await nodes(catalog, "a") == ["interlock_project.my_agents.agent_v2"]


async def test_a_file_beside_a_graph_does_not_hide_the_standard_library(project: Make) -> None:
    files = {
        "a.py": PRELUDE + "import calendar\ngraph = build(calendar.month_name[1])",
        "calendar.py": "1 / 0",
    }
    assert await nodes(project(files, {"a": "./a.py:graph"}), "a") == ["January"]


async def test_packages_of_the_projects_own_environment_are_found(project: Make, tmp_path: Path) -> None:
    """O63: interlock is installed elsewhere, with uv or pipx."""
    packages = f".venv/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    files = {
        ".venv/pyvenv.cfg": "home = /usr/bin\n",
        f"{packages}/only_there.py": "NAME = 'there'",
        f"{packages}/editable.pth": str(tmp_path / "linked"),
        "linked/linked_there.py": "NAME = 'linked'",
        "a.py": PRELUDE + "import only_there as a, linked_there as b\ngraph = build(a.NAME + b.NAME)",
    }
    assert await nodes(project(files, {"a": "./a.py:graph"}), "a") == ["therelinked"]


def test_an_environment_of_another_python_is_not_used(project: Make, tmp_path: Path) -> None:
    (tmp_path / ".venv" / "lib" / "python2.7").mkdir(parents=True)
    (tmp_path / ".venv" / "pyvenv.cfg").touch()
    with pytest.raises(ImportError, match=r"has python2\.7, interlock runs on python3"):
        foreign_environment({}, tmp_path)
    assert project({"a.py": PRELUDE + "graph = build()"}, {"a": "./a.py:graph"}).graph_ids == ("a",)


def test_a_file_of_our_own_is_our_own_module() -> None:
    """In a process of its own, as it imports our graphs."""
    script = """
    import sys
    from pathlib import Path
    import interlock
    from interlock.server.runs.modules import ModuleNames
    own = Path(interlock.__path__[0], "tools", "policy", "permissions.py").resolve()
    module = ModuleNames(own.parent).load_file(own)
    from interlock.tools.policy import permissions
    assert module is permissions, module
    """
    subprocess.run([sys.executable, "-c", dedent(script)], check=True)
