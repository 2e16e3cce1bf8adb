from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg import sql

from ..servers import OUR_VARIABLES, InterlockServer

Until = Callable[..., Awaitable[Any]]
Start = Callable[..., InterlockServer]

GRAPH = """
from typing import TypedDict
from langgraph.graph import END, START, StateGraph

class State(TypedDict, total=False):
    text: str

builder = StateGraph(State)
builder.add_node("tell", lambda state: {{"text": {text!r}}})
builder.add_edge(START, "tell")
builder.add_edge("tell", END)
graph = builder.compile()
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "agent.py").write_text(GRAPH.format(text="first"))
    (folder / "langgraph.json").write_text(json.dumps({"graphs": {"agent": "./agent.py:graph"}}))
    return folder


def interlock(
    *words: str, project: Path, env: Mapping[str, str] | None = None, succeeds: bool = True
) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(OUR_VARIABLES)}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "interlock.server.cli", *words],
        cwd=project,
        env={**clean, "LOG_LEVEL": "warning", **(env or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) is succeeds, done.stdout + done.stderr
    return done


def ask(server: InterlockServer, text: str = "") -> str:
    body = {"assistant_id": "agent", "input": {"text": text}}
    return httpx.post(f"{server.url}/runs/wait", json=body, timeout=90).json()["text"]


def begin(server: InterlockServer) -> None:
    body = {"assistant_id": "agent", "input": {"text": ""}}
    httpx.post(f"{server.url}/runs", json=body, timeout=60).raise_for_status()


def test_config_prints_each_value_with_its_source_and_no_password(project: Path) -> None:
    (project / "interlock.toml").write_text("[worker]\nslots = 3\n")
    (project / "langgraph.json").write_text(
        json.dumps({"graphs": {"agent": "./agent.py:graph"}, "env": ".env", "http": {"mount_prefix": "/p"}})
    )
    (project / ".env").write_text("N_JOBS_PER_WORKER=2\nDATABASE_URL=postgresql://u:hunter2@h/d\n")
    done = interlock("config", "--json", project=project, env={"INTERLOCK_WORKER_LEASE_S": "7"})
    found = {name: (row["value"], row["source"]) for name, row in json.loads(done.stdout).items()}
    assert found["worker.slots"] == ("2", "N_JOBS_PER_WORKER")
    assert found["worker.lease_s"] == ("7.0", "INTERLOCK_WORKER_LEASE_S")
    assert found["http.mount_prefix"] == ("/p", "langgraph.json")
    assert found["http.port"] == ("2024", "default")
    assert found["database.url"] == ("postgresql://u:***@h/d", "DATABASE_URL")
    assert "hunter2" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("words", "env", "message"),
    [
        (["config", "--config", "other.json"], {}, "there is no"),
        (["config"], {"INTERLOCK_WORKER_SLOTS": "none"}, "INTERLOCK_WORKER_SLOTS: `worker.slots`"),
        (["migrate"], {"DATABASE_URL": "postgresql://127.0.0.1:1/x"}, "cannot be reached"),
        (["serve", "--port", "0"], {"DATABASE_URL": "postgresql://127.0.0.1:1/x"}, "cannot be reached"),
    ],
)
def test_what_keeps_a_command_from_starting_is_told_in_a_sentence(
    project: Path, words: list[str], env: dict[str, str], message: str
) -> None:
    done = interlock(*words, project=project, env=env, succeeds=False)
    assert done.stderr.startswith("interlock: ")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_project_whose_auth_object_cannot_be_loaded_is_not_served(project: Path, database_url: str) -> None:
    config = {"graphs": {"agent": "./agent.py:graph"}, "auth": {"path": "./auth.py:auth"}}
    (project / "langgraph.json").write_text(json.dumps(config))
    done = interlock(
        "serve", "--port", "0", project=project, env={"DATABASE_URL": database_url}, succeeds=False
    )
    assert "`auth.path` (./auth.py:auth): FileNotFoundError" in done.stderr


def test_migrate_makes_a_database_that_serve_accepts(
    project: Path, empty_database_url: str, interlock_server: Start
) -> None:
    refused = interlock_server("serve", project=project, database_url=empty_database_url, wait=False)
    assert refused.process is not None
    assert refused.process.wait(60) == 1
    assert "run `interlock migrate`" in refused.log
    interlock("migrate", project=project, env={"DATABASE_URL": empty_database_url})
    server = interlock_server("serve", project=project, database_url=empty_database_url)
    assert httpx.get(f"{server.url}/ok").json()["ok"] is True
    assert server.terminate() == 0


def test_a_newer_schema_is_refused(project: Path, database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO interlock.migrations (version, name, sha256) VALUES (9999, 'future', '')"
        )
    for words in (["work"], ["migrate"]):
        done = interlock(*words, project=project, env={"DATABASE_URL": database_url}, succeeds=False)
        assert "9999" in done.stderr


def test_doctor_finds_nothing_wrong_with_a_good_project(project: Path, database_url: str) -> None:
    env = {"DATABASE_URL": database_url}
    interlock("migrate", project=project, env=env)
    done = interlock("doctor", "--port", "0", project=project, env=env)
    lines = [line.split()[:2] for line in done.stdout.splitlines()]
    subjects = ["python", "config", "graph", "database", "pgvector", "clock", "migrations"]
    subjects += ["store.index", "port"]
    assert lines == [["ok", subject] for subject in subjects]


def test_doctor_names_all_that_is_wrong(project: Path, empty_database_url: str) -> None:
    (project / "broken.py").write_text("import no_such_module")
    config = {
        "graphs": {"agent": "./agent.py:graph", "broken": "./broken.py:graph"},
        "env": ".env",
        "ui": {"x": "./x.tsx"},
    }
    (project / "langgraph.json").write_text(json.dumps(config))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        words = ["doctor", "--port", str(taken.getsockname()[1])]
        done = interlock(*words, project=project, env={"DATABASE_URL": empty_database_url}, succeeds=False)
    wrong = [line for line in done.stdout.splitlines() if line.startswith("FAIL")]
    for word in (".env", "`ui`", "no_such_module", "interlock migrate", "--port"):
        assert any(word in line for line in wrong), done.stdout
    assert len(wrong) == 5


def test_doctor_only_warns_of_a_postgres_without_vectors(project: Path, database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA bare")
        # Looked up before the catalog's own, as on a server whose packages lack the extension.
        connection.execute(
            "CREATE VIEW bare.pg_available_extensions AS "
            "SELECT * FROM pg_catalog.pg_available_extensions WHERE name <> 'vector'"
        )
        connection.execute(
            sql.SQL("ALTER DATABASE {} SET search_path = bare, pg_catalog").format(
                sql.Identifier(connection.info.dbname)
            )
        )
    done = interlock("doctor", "--port", "0", project=project, env={"DATABASE_URL": database_url})
    assert re.search(r"^warn +pgvector +.*search by meaning will not work$", done.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("index", "wrong"),
    [
        ({"embed": "auto"}, "warn"),
        ({"embed": "./agent.py:embed", "dims": 3}, "FAIL"),
        ({"embed": "./agent.py:embed", "dims": 2}, "FAIL"),
        ({"embed": "./agent.py:nothing", "dims": 2}, "FAIL"),
        ({"embed": "none"}, None),
    ],
    ids=str,
)
def test_doctor_checks_the_index_of_the_store(
    project: Path, database_url: str, index: dict[str, Any], wrong: str | None
) -> None:
    with (project / "agent.py").open("a") as code:
        code.write("\n\ndef embed(texts):\n    return [[1.0, 2.0] for text in texts]\n")
    config = {"graphs": {"agent": "./agent.py:graph"}, "store": {"index": index}}
    (project / "langgraph.json").write_text(json.dumps(config))
    env = {"DATABASE_URL": database_url}
    done = interlock("doctor", "--port", "0", project=project, env=env, succeeds=wrong != "FAIL")
    assert re.search(rf"^{wrong or 'ok'} +store\.index +\S", done.stdout, re.MULTILINE), done.stdout


def test_doctor_survives_a_database_that_does_not_answer(project: Path) -> None:
    env = {"DATABASE_URL": "postgresql://u:hunter2@127.0.0.1:1/x"}
    done = interlock("doctor", "--port", "0", project=project, env=env, succeeds=False)
    assert re.search(r"^FAIL +database +postgresql://u:\*\*\*@127\.0\.0\.1:1/x", done.stdout, re.MULTILINE)
    assert "hunter2" not in done.stdout + done.stderr


def test_db_url_is_the_address_that_psql_takes(project: Path, database_url: str) -> None:
    done = interlock("db", "url", project=project, env={"DATABASE_URL": database_url})
    with psycopg.connect(done.stdout.strip()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_dev_brings_its_own_database_and_keeps_it_out_of_git(
    project: Path, tmp_path: Path, interlock_server: Start
) -> None:
    env = {"DATABASE_URL": "", "INTERLOCK_HOME": str(tmp_path / "h")}
    server = interlock_server(project=project, env=env)
    assert ask(server) == "first"
    assert (tmp_path / "h" / ".gitignore").read_text() == "*\n"
    thread = httpx.post(f"{server.url}/threads", json={}).json()
    server.restart()
    assert httpx.get(f"{server.url}/threads/{thread['thread_id']}").status_code == 200
    url = interlock(
        "db", "url", project=project, env={"INTERLOCK_HOME": env["INTERLOCK_HOME"]}
    ).stdout.strip()
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM interlock.threads").fetchone() is not None


def test_dev_takes_the_next_port_when_its_own_is_taken_and_says_so(
    project: Path, interlock_server: Start
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = interlock_server(project=project, args=["--port", str(port)], wait=False)
        server.port, server.url = port + 1, f"http://127.0.0.1:{port + 1}"
        server.wait_until_ready()
    assert f"port {port} is taken" in server.log
    assert server.url in server.log


def test_serve_refuses_a_port_that_is_taken(project: Path, database_url: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        words = ["serve", "--port", str(taken.getsockname()[1])]
        done = interlock(*words, project=project, env={"DATABASE_URL": database_url}, succeeds=False)
    assert "Address already in use" in done.stderr


async def test_dev_starts_again_on_a_change_and_waits_out_a_broken_one(
    project: Path, interlock_server: Start, until: Until
) -> None:
    server = interlock_server(project=project, args=["--reload"])
    assert ask(server) == "first"
    (project / "agent.py").write_text("broken(")
    await until(lambda: "waiting_for_a_change" in server.log, deadline_s=60)
    assert "agent.py" in server.log
    (project / "agent.py").write_text(GRAPH.format(text="second"))
    # The socket stays open meanwhile: this request waits for the new server.
    assert ask(server) == "second"
    assert server.terminate() == 0


async def test_the_served_child_ends_with_a_killed_watcher(
    project: Path, interlock_server: Start, until: Until
) -> None:
    server = interlock_server(project=project, args=["--reload"])
    server.kill()

    def gone() -> bool:
        try:
            httpx.get(f"{server.url}/ok", timeout=1)
        except httpx.TransportError:
            return True
        return False

    await until(gone, deadline_s=30)


async def test_a_second_signal_does_not_wait(project: Path, interlock_server: Start, until: Until) -> None:
    waiting = "lambda state: open('began', 'w') and __import__('time').sleep(600) or"
    (project / "agent.py").write_text(GRAPH.format(text="late").replace("lambda state:", waiting))
    server = interlock_server(project=project)
    begin(server)
    await until((project / "began").exists)
    assert server.process is not None
    server.process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        server.process.wait(1)
    assert server.terminate(deadline_s=5) == 128 + signal.SIGTERM


def test_listening_to_everybody_without_a_key_is_warned_about(project: Path, interlock_server: Start) -> None:
    server = interlock_server("serve", project=project, args=["--host", "0.0.0.0"])
    assert "open_to_everybody" in server.log
