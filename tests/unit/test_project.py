from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from interlock.server.runs.project import (
    BUILD_TIME_KEYS,
    UNSUPPORTED_KEYS,
    Project,
    ProjectError,
    load_project,
)
from interlock.server.sources import SettingsError, read_settings

GRAPHS = {"agent": "./agent.py:graph"}


def load(folder: Path, environ: dict[str, str] | None = None, **config: Any) -> Project:
    path = folder / "langgraph.json"
    path.write_text(json.dumps({"graphs": GRAPHS} | config))
    return load_project(path, environ or {})


def refusal(folder: Path, environ: dict[str, str] | None = None, **config: Any) -> str:
    with pytest.raises(ProjectError) as refused:
        load(folder, environ, **config)
    return str(refused.value)


def test_a_graph_is_a_string_or_an_object_with_a_description(tmp_path: Path) -> None:
    project = load(tmp_path, graphs={"a": "./a.py:graph", "b": {"path": "pkg.mod:make", "description": "B"}})
    assert (project.graphs["a"].location, project.graphs["a"].attribute) == ("./a.py", "graph")
    assert project.graphs["a"].is_file
    assert not project.graphs["b"].is_file
    assert project.graphs["b"].description == "B"


def test_what_an_assistant_begins_with_can_come_from_the_environment_or_the_env_of_the_file(
    tmp_path: Path,
) -> None:
    said = json.dumps({"agent": {"configurable": {"model": "m"}}})
    for project in (
        load(tmp_path, {"LANGGRAPH_CONFIG": said}),
        load(tmp_path, env={"LANGGRAPH_CONFIG": said}),
        load(tmp_path, {"LANGGRAPH_CONFIG": said}, env={"LANGGRAPH_CONFIG": "{}"}),
    ):
        assert project.graphs["agent"].config == {"configurable": {"model": "m"}}
    whole = json.dumps({"graphs": {"other": "./other.py:graph"}})
    assert list(load(tmp_path, {"LANGGRAPH_CONFIG": whole}).graphs) == ["other"]


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ({"agnet": {}}, "graph 'agnet' does not exist"),
        ({"agent": 3}, "must have an object"),
        ({"agent": {"context": {"a": 1}, "configurable": {"a": 1}}}, "not both"),
    ],
)
def test_a_beginning_that_no_assistant_could_have_is_refused(
    tmp_path: Path, said: dict[str, Any], word: str
) -> None:
    assert word in refusal(tmp_path, {"LANGGRAPH_CONFIG": json.dumps(said)})


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ({"graphs": {}}, "`graphs`"),
        ({"graphs": {"a": "./a.py"}}, "must end with `:name`"),
        ({"graphs": {"a": 3}}, "graph 'a'"),
        ({"graphs": {"a": {"path": "./a.py:g", "titel": "x"}}}, "`titel`"),
        ({"dependecies": ["."]}, "unknown key `dependecies`; did you mean `dependencies`?"),
        (
            {"http": {"mount_prefx": "/x"}},
            "unknown key `http.mount_prefx`; did you mean `http.mount_prefix`?",
        ),
        ({"store": []}, "`store` must be an object"),
        ({"dependencies": "."}, "`dependencies` must be a list"),
        ({"dependencies": ["./nowhere"]}, "'./nowhere' is no folder"),
        ({"env": 3}, "`env` must be"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, config: dict[str, Any], word: str) -> None:
    assert word in refusal(tmp_path, **config)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match=r"there is no .*langgraph\.json"):
        load_project(tmp_path / "langgraph.json", {})


def test_broken_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "langgraph.json").write_text("{")
    with pytest.raises(ProjectError, match=r"langgraph\.json is not valid JSON"):
        load_project(tmp_path / "langgraph.json", {})


@pytest.mark.parametrize("key", sorted(BUILD_TIME_KEYS))
def test_keys_for_building_images_mean_nothing_here(tmp_path: Path, key: str) -> None:
    assert load(tmp_path, **{key: "x"}).unsupported == ()


@pytest.mark.parametrize("key", sorted(UNSUPPORTED_KEYS))
def test_a_documented_key_that_we_do_not_honour_is_refused_by_name(tmp_path: Path, key: str) -> None:
    section, _, name = key.partition(".")
    project = load(tmp_path, **{section: {name: {"x": 1}} if name else {"x": 1}})
    with pytest.raises(ProjectError, match=key):
        project.refuse_unsupported("refuse")


@pytest.mark.parametrize("key", sorted(UNSUPPORTED_KEYS))
def test_a_setting_turns_the_refusal_into_a_warning(tmp_path: Path, key: str) -> None:
    section, _, name = key.partition(".")
    project = load(tmp_path, **{section: {name: {"x": 1}} if name else {"x": 1}})
    (warning,) = project.refuse_unsupported("warn")
    assert key in warning


def test_a_key_for_the_encryption_of_another_server_is_not_passed_over(tmp_path: Path) -> None:
    told = {"LANGGRAPH_AES_KEY": "0123456789abcdef"}
    assert "`encryption.path`" in refusal(tmp_path, told)
    hook = {"path": "./keys.py:encryption"}
    assert load(tmp_path, told, encryption=hook).hooks["encryption.path"] == hook["path"]
    assert load(tmp_path, {"LANGGRAPH_ENCRYPTION": json.dumps(hook)}).hooks["encryption.path"] == hook["path"]


def test_keys_that_are_our_settings_become_settings(tmp_path: Path) -> None:
    http = {"cors": {"allow_origins": ["https://a"]}, "mount_prefix": "/p", "disable_mcp": True}
    assert load(tmp_path, http=http).settings == {"http": http}


def test_webhooks_become_settings_and_may_come_from_the_environment(tmp_path: Path) -> None:
    webhooks = {"url": {"require_https": False}, "headers": {"x-a": "b"}}
    assert load(tmp_path, webhooks=webhooks).settings == {"webhooks": webhooks}
    (tmp_path / "langgraph.json").write_text(json.dumps({"graphs": {"a": "./a.py:graph"}}))
    injected = load_project(tmp_path / "langgraph.json", {"LANGGRAPH_WEBHOOKS": json.dumps(webhooks)})
    assert injected.settings == {"webhooks": webhooks}
    with pytest.raises(ProjectError, match=r"webhooks\.urls.*webhooks\.url"):
        load(tmp_path, webhooks={"urls": {}})


def test_how_long_threads_are_kept_becomes_settings(tmp_path: Path) -> None:
    ttl = {"default_ttl": 43200, "strategy": "keep_latest", "sweep_interval_minutes": 60, "sweep_limit": None}
    project = load(tmp_path, checkpointer={"ttl": ttl})
    assert project.unsupported == ()
    settings = read_settings({}, project=project.settings)
    assert settings.thread_ttl.model_dump() == {**ttl, "sweep_limit": 1000}
    assert settings.sources["thread_ttl.default_ttl"] == "langgraph.json"
    with pytest.raises(SettingsError, match=r"langgraph\.json: `thread_ttl\.default_ttl`"):
        read_settings({}, project=load(tmp_path, checkpointer={"ttl": {"default_ttl": -1}}).settings)


def test_a_misspelt_time_to_live_is_named(tmp_path: Path) -> None:
    assert "did you mean `checkpointer.ttl.strategy`" in refusal(
        tmp_path, checkpointer={"ttl": {"stratgy": "x"}}
    )
    assert "`checkpointer.ttl` must be an object" in refusal(tmp_path, checkpointer={"ttl": 5})


def test_local_dependencies_are_folders_to_import_from(tmp_path: Path) -> None:
    (tmp_path / "lib" / "src" / "inner").mkdir(parents=True)
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "__init__.py").touch()
    project = load(tmp_path, dependencies=[".", "./lib", "./pkg", "langchain-openai", "git+https://x/y"])
    assert project.import_paths == (
        tmp_path,
        tmp_path / "lib",
        tmp_path / "lib" / "src",
        tmp_path / "pkg",
        tmp_path,
    )


def test_env_is_a_file_or_an_object(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("KEY='a value'\nEMPTY=\n# comment\n")
    assert load(tmp_path, env=".env").environment == {"KEY": "a value", "EMPTY": ""}
    assert load(tmp_path, env={"KEY": "v", "N": 3}).environment == {"KEY": "v", "N": "3"}


def test_a_missing_env_file_is_a_warning(tmp_path: Path) -> None:
    project = load(tmp_path, env=".env")
    assert project.environment == {}
    assert ".env" in project.warnings[0]


def test_the_environment_can_stand_in_for_the_file(tmp_path: Path) -> None:
    environ = {
        "LANGSERVE_GRAPHS": json.dumps({"z": "./z.py:graph"}),
        "LANGGRAPH_HTTP": '{"mount_prefix": "/q"}',
    }
    project = load_project(tmp_path / "langgraph.json", environ)
    assert list(project.graphs) == ["z"]
    assert project.settings == {"http": {"mount_prefix": "/q"}}


def test_broken_json_in_the_environment_is_named(tmp_path: Path) -> None:
    assert "LANGGRAPH_STORE is not valid JSON" in refusal(tmp_path, {"LANGGRAPH_STORE": "{"})
