from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from interlock.server.settings import ApiKey, AuthSettings, Settings, masked
from interlock.server.sources import (
    DOCUMENTED_VARIABLES,
    SettingsError,
    read_settings,
    replaced,
    setting_names,
)


def toml(folder: Path, text: str) -> Path:
    path = folder / "interlock.toml"
    path.write_text(text)
    return path


def test_later_sources_win_and_each_value_remembers_its_own(tmp_path: Path) -> None:
    file = toml(tmp_path, "[worker]\nslots = 3\nlease_s = 4\n[http]\nmount_prefix = '/toml'\n")
    settings = read_settings(
        {"INTERLOCK_WORKER_SLOTS": "7"}, project={"http": {"mount_prefix": "/project"}}, toml=file
    )
    settings = replaced(settings, "command line", {"http.port": 9, "worker.run_loops": None})
    assert settings.worker.slots == 7
    assert settings.worker.lease_s == 4
    assert settings.http.mount_prefix == "/toml"
    assert settings.http.port == 9
    assert settings.sources == {
        "worker.slots": "INTERLOCK_WORKER_SLOTS",
        "worker.lease_s": "interlock.toml",
        "http.mount_prefix": "interlock.toml",
        "http.port": "command line",
    }


def test_a_missing_file_changes_nothing(tmp_path: Path) -> None:
    assert read_settings({}, toml=tmp_path / "interlock.toml") == Settings()


@pytest.mark.parametrize(
    ("variable", "text", "path", "value"),
    [
        ("N_JOBS_PER_WORKER", "4", "worker.slots", 4),
        ("BG_JOB_TIMEOUT_SECS", "60", "worker.run_timeout_s", 60),
        ("BG_JOB_ISOLATED_LOOPS", "true", "worker.isolated_loops", True),
        ("LOG_LEVEL", "WARNING", "log.level", "warning"),
        ("LOG_JSON", "1", "log.json_lines", True),
        ("PORT", "8123", "http.port", 8123),
        ("POSTGRES_URI", "postgresql://h/d", "database.url", "postgresql://h/d"),
        ("DATABASE_URI", "postgres://h/d", "database.url", "postgres://h/d"),
        ("LANGGRAPH_POSTGRES_POOL_MAX_SIZE", "150", "database.pool_max", 150),
    ],
)
def test_documented_variables_of_the_langgraph_server_work(
    variable: str, text: str, path: str, value: Any
) -> None:
    settings = read_settings({variable: text})
    section, name = path.split(".")
    assert getattr(getattr(settings, section), name) == value
    assert settings.sources[path] == variable


def test_every_documented_variable_sets_something() -> None:
    paths = {name.path for name in setting_names()}
    assert set(DOCUMENTED_VARIABLES.values()) <= paths


def test_our_variable_wins_over_a_documented_one() -> None:
    settings = read_settings({"N_JOBS_PER_WORKER": "4", "INTERLOCK_WORKER_SLOTS": "5"})
    assert settings.worker.slots == 5


def test_every_setting_has_a_variable_of_its_own() -> None:
    variables = [name.variable for name in setting_names()]
    assert len(variables) == len(set(variables))


def test_lists_in_the_environment_are_words_or_json() -> None:
    words = read_settings({"INTERLOCK_TOOLS_EGRESS_ALLOW": "a.org, *.b.org"})
    json = read_settings({"INTERLOCK_TOOLS_EGRESS_ALLOW": '["a.org", "*.b.org"]'})
    assert words.tools.egress_allow == json.tools.egress_allow == ("a.org", "*.b.org")


def test_api_keys_can_come_from_the_environment() -> None:
    settings = read_settings(
        {"INTERLOCK_AUTH_API_KEYS": '[{"name": "ci", "sha256": "%s", "subject": "ci"}]' % ("0" * 64)}
    )
    assert settings.auth == AuthSettings(api_keys=(ApiKey(name="ci", sha256="0" * 64, subject="ci"),))


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"INTERLOCK_WORKER_SLOT": "1"}, ["INTERLOCK_WORKER_SLOT", "did you mean `INTERLOCK_WORKER_SLOTS`"]),
        ({"INTERLOCK_WORKER_SLOTS": "many"}, ["INTERLOCK_WORKER_SLOTS", "worker.slots"]),
        ({"INTERLOCK_WORKER_SLOTS": "0"}, ["INTERLOCK_WORKER_SLOTS", "greater than or equal to 1"]),
        ({"INTERLOCK_GRAPHS_BUDGET": "{"}, ["INTERLOCK_GRAPHS_BUDGET", "not valid JSON"]),
        ({"INTERLOCK_AUTH_API_KEYS": "abc"}, ["INTERLOCK_AUTH_API_KEYS", "must hold JSON"]),
        ({"LANGGRAPH_AUTH_TYPE": "langsmith"}, ["LANGGRAPH_AUTH_TYPE", "not supported"]),
    ],
)
def test_a_wrong_variable_is_refused_by_name(environ: dict[str, str], words: list[str]) -> None:
    with pytest.raises(SettingsError) as refused:
        read_settings(environ)
    for word in words:
        assert word in str(refused.value)


def test_a_key_that_no_setting_has_is_refused_with_the_nearest_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"interlock\.toml: `worker\.slot` .* `worker\.slots`"):
        read_settings({}, toml=toml(tmp_path, "[worker]\nslot = 3\n"))


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as refused:
        read_settings({}, toml=toml(tmp_path, "surprise = 1\n[worker]\nslots = -1\n"))
    assert len(str(refused.value).splitlines()) == 2


def test_broken_toml_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"interlock\.toml is not valid TOML"):
        read_settings({}, toml=toml(tmp_path, "[worker\n"))


def test_paths_in_the_file_are_relative_to_it(tmp_path: Path) -> None:
    settings = read_settings({}, toml=toml(tmp_path, "[tools]\npolicies = 'policies'\n"))
    assert settings.tools.policies == tmp_path / "policies"


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().worker.slots = 3  # pyright: ignore[reportAttributeAccessIssue]


def test_a_graph_has_the_general_budget_where_it_sets_none_of_its_own() -> None:
    settings = read_settings(
        {
            "INTERLOCK_BUDGET_TOKENS": "1000",
            "INTERLOCK_BUDGET_STEPS": "50",
            "INTERLOCK_GRAPHS_BUDGET": '{"small": {"steps": 5, "on_limit": "stop"}}',
        }
    )
    small, other = settings.budget_of("small"), settings.budget_of("other")
    assert (small.steps, small.tokens, small.on_limit) == (5, 1000, "stop")
    assert (other.steps, other.tokens, other.on_limit) == (50, 1000, "ask")


def test_the_direct_address_is_the_pooled_one_unless_given() -> None:
    assert read_settings({"DATABASE_URL": "postgresql://a/b"}).database.direct_url == "postgresql://a/b"
    both = read_settings({"DATABASE_URL": "postgresql://a/b", "DATABASE_DIRECT_URL": "postgresql://c/d"})
    assert both.database.direct_url == "postgresql://c/d"


def test_an_address_for_another_driver_is_understood() -> None:
    settings = read_settings({"DATABASE_URL": "postgresql+asyncpg://u:p@h:5/d?sslmode=require"})
    assert settings.database.url == "postgresql://u:p@h:5/d?sslmode=require"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:secret@h/d?sslmode=require", "postgresql://u:***@h/d?sslmode=require"),
        ("postgresql://u:se%40cret@[::1]:5/d", "postgresql://u:***@[::1]:5/d"),
        ("postgresql://h/d?user=u&password=secret&x=1", "postgresql://h/d?user=u&password=***&x=1"),
        ("host=h password=secret dbname=d", "host=h password=*** dbname=d"),
        ("host=h password='a secret' dbname=d", "host=h password=*** dbname=d"),
        ("postgresql://u@h/d", "postgresql://u@h/d"),
        ("postgresql:///d?host=/run/pg", "postgresql:///d?host=/run/pg"),
    ],
)
def test_an_address_is_shown_without_its_password(url: str, shown: str) -> None:
    assert masked(url) == shown


def test_printing_the_settings_shows_no_secret() -> None:
    settings = read_settings(
        {
            "DATABASE_URL": "postgresql://u:hunter2@h/d",
            "INTERLOCK_AUTH_API_KEYS": '[{"name": "ci", "sha256": "%s", "subject": "ci"}]' % ("ab" * 32),
        }
    )
    assert "hunter2" not in repr(settings)
    assert "abab" not in repr(settings)
