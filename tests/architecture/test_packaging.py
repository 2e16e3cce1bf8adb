"""What is built and installed, seen from outside the repository."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
import zipfile
from pathlib import Path
from textwrap import dedent

import httpx
import pytest

from ..servers import free_port
from .tree import FLOORS, ROOT, tracked

GRAPH = """
from typing import TypedDict
from langgraph.graph import END, START, StateGraph
from server.names import NAME
from tools import shout
from .words import word

class State(TypedDict, total=False):
    text: str

builder = StateGraph(State)
builder.add_node("tell", lambda state: {{"text": shout(f"{{word}} {{NAME}} {folder}")}})
builder.add_edge(START, "tell")
builder.add_edge("tell", END)
graph = builder.compile()
"""


def run(*command: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the tracked files, so that nothing else can slip in."""
    source = tmp_path_factory.mktemp("source")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    for name in listed.stdout.decode().split("\0"):
        if name and os.path.lexists(ROOT / name):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name, follow_symlinks=False)
    run(sys.executable, "-m", "build", "--wheel", "--outdir", str(source / "dist"), cwd=source)
    (built,) = (source / "dist").glob("*.whl")
    return built


def test_the_wheel_holds_what_is_tracked_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    ours = {f"interlock/{path}" for path in tracked() if path.parts[0] in FLOORS}
    assert held == ours | {"interlock/__init__.py", "interlock/py.typed"}


def test_constraints_name_every_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["embedded"], *extras["dev"]]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {re.split(r"==", line)[0].lower().replace("_", "-") for line in lines}
    names = {re.split(r"[\[=<>~; ]", line)[0].lower().replace("_", "-") for line in wanted}
    assert names <= pinned
    assert all("://" not in line for line in lines), "a download address"


def make_foreign_project(folder: Path) -> Path:
    """Top-level packages named like ours, and two graph files of one name."""
    files = {
        "tools/__init__.py": "def shout(text):\n    return text.upper()\n",
        "server/__init__.py": "",
        "server/names.py": "NAME = 'theirs'\n",
        "graphs/__init__.py": "",
        "langgraph.json": """
            {"dependencies": ["."],
             "graphs": {"one": "./graphs/one/graph.py:graph", "two": "./graphs/two/graph.py:graph"}}
        """,
    }
    for name in ("one", "two"):
        files[f"graphs/{name}/__init__.py"] = ""
        files[f"graphs/{name}/graph.py"] = GRAPH.format(folder=name)
        files[f"graphs/{name}/words.py"] = f"word = 'word of {name}'\n"
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(dedent(text))
    return folder


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `interlock` command of an environment that holds only the wheel and what it needs."""
    environment = tmp_path_factory.mktemp("environment") / "venv"
    requirement = f"interlock[embedded] @ {wheel.as_uri()}"
    constraints = str(ROOT / "constraints.txt")
    if uv := shutil.which("uv") or shutil.which(ROOT / ".uv" / "bin" / "uv"):
        run(uv, "venv", "-q", "--python", sys.executable, str(environment))
        run(uv, "pip", "install", "-q", "--python", str(environment), "-c", constraints, requirement)
    else:
        run(sys.executable, "-m", "venv", str(environment))
        run(str(environment / "bin" / "pip"), "install", "-q", "-c", constraints, requirement)
    return environment / "bin" / "interlock"


def test_the_installed_wheel_runs_a_foreign_project_from_elsewhere(installed: Path, tmp_path: Path) -> None:
    """With the embedded database, an empty home, and no package of ours in the working directory."""
    project, elsewhere = make_foreign_project(tmp_path / "project"), tmp_path / "elsewhere"
    elsewhere.mkdir()
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    config = ["--config", str(project / "langgraph.json")]
    env = {"HOME": str(tmp_path / "home"), "PATH": os.environ["PATH"]}
    log = tmp_path / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [str(installed), "dev", *config, "--port", str(port), "--no-browser"],
            cwd=elsewhere,
            env=env,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + 90
        while not answers(url):
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        for name in ("one", "two"):
            body = {"assistant_id": name, "input": {"text": ""}}
            done = httpx.post(f"{url}/runs/wait", json=body, timeout=60)
            assert done.json() == {"text": f"WORD OF {name} THEIRS {name}".upper()}, log.read_text()
    finally:
        server.terminate()
        server.wait(30)
    assert (project / ".interlock" / "postgres" / "pg" / "PG_VERSION").exists()
    assert list(elsewhere.iterdir()) == []


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ok", timeout=2).status_code == 200
    except httpx.TransportError:
        return False
