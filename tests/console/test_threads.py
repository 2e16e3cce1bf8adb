"""The list of threads, and the door of a server that asks for a key."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from ..servers import InterlockServer, prepare, running
from .acts import answers, ask, choose, ended, press
from .conftest import PROJECT, OpenPage

KEY = "a key for the tests of the console"


def names(page: Page) -> Locator:
    return page.get_by_role("navigation").locator(".thread-title")


@pytest.fixture(autouse=True)
def empty(server: InterlockServer) -> None:
    """Each test begins without threads."""
    with httpx.Client(base_url=server.url) as http:
        while found := http.post("/threads/search", json={"limit": 100, "select": ["thread_id"]}).json():
            for thread in found:
                http.delete(f"/threads/{thread['thread_id']}").raise_for_status()


def test_threads_are_listed_newest_first_by_title_or_first_message(
    open_page: OpenPage, server: InterlockServer
) -> None:
    with httpx.Client(base_url=server.url) as http:
        for metadata in ({"title": "Older"}, {"title": "  "}, {}):
            http.post("/threads", json={"metadata": metadata}).raise_for_status()
        question = {"messages": [{"type": "human", "content": "What is\nthe first message?"}]}
        untitled = http.post("/threads", json={}).json()["thread_id"]
        http.post(f"/threads/{untitled}/runs/wait", json={"assistant_id": "echo", "input": question})
    page = open_page()
    expect(names(page)).to_have_text(
        ["What is the first message?", "Untitled thread", "Untitled thread", "Older"]
    )


def test_the_list_grows_page_by_page(open_page: OpenPage, server: InterlockServer) -> None:
    with httpx.Client(base_url=server.url) as http:
        for number in range(65):
            http.post("/threads", json={"metadata": {"title": f"Thread {number}"}}).raise_for_status()
    page = open_page()
    expect(names(page)).to_have_count(30)
    expect(page.get_by_text("30 of 65")).to_be_visible()
    press(page, "Show more")
    expect(names(page)).to_have_count(60)
    press(page, "Show more")
    expect(names(page)).to_have_count(65)
    expect(page.get_by_role("button", name="Show more")).to_have_count(0)
    assert len(set(names(page).all_inner_texts())) == 65


def test_the_list_can_show_only_what_waits(page: Page) -> None:
    choose(page, "echo")
    ask(page, "no question")
    ended(page)
    page.get_by_role("link", name="New thread").click()
    choose(page, "route")
    ask(page, "a question")
    expect(page.get_by_role("navigation").locator(".status.waiting")).to_have_text("Waiting for you")
    page.get_by_label("Show", exact=True).select_option(label="Waiting or stopped")
    expect(names(page)).to_have_text(["a question"])
    page.get_by_label("Show", exact=True).select_option(label="Failed")
    expect(page.get_by_text("None right now.")).to_be_visible()


def test_a_thread_is_deleted_only_after_it_was_confirmed(page: Page, server: InterlockServer) -> None:
    choose(page, "echo")
    ask(page, "delete me")
    ended(page)
    delete = page.get_by_role("button", name="Delete “delete me”")
    delete.click()
    dialog = page.get_by_role("dialog", name="Delete this thread?")
    expect(dialog).to_contain_text("“delete me” and all it holds will be gone")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(names(page)).to_have_count(1)
    delete.click()
    dialog.get_by_role("button", name="Delete").click()
    expect(names(page)).to_have_count(0)
    expect(page.get_by_role("heading", level=1)).to_have_text("What shall we work on?")
    assert httpx.post(f"{server.url}/threads/count", json={}).json() == 0


def test_another_thread_is_opened_from_the_list(page: Page) -> None:
    choose(page, "echo")
    ask(page, "first")
    ended(page)
    page.get_by_role("link", name="New thread").click()
    ask(page, "second")
    ended(page)
    page.get_by_role("link", name=re.compile("^first")).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("first")
    expect(answers(page)).to_have_text("first")
    page.go_back()
    expect(page.get_by_role("heading", level=1)).to_have_text("second")


@pytest.fixture
def locked_server(console_database_url: str, tmp_path: Path) -> Iterator[InterlockServer]:
    """A server that asks for a key."""
    project = shutil.copytree(PROJECT, tmp_path / "project")
    hashed = hashlib.sha256(KEY.encode()).hexdigest()
    with (project / "interlock.toml").open("a") as settings:
        settings.write(
            f'\n[[auth.api_keys]]\nname = "console"\nsha256 = "{hashed}"\ntenant = "default"\n'
            'subject = "tester"\nroles = ["admin"]\n'
        )
    locked = prepare(console_database_url, tmp_path / "server", project=project)
    with running(locked):
        yield locked


def test_a_server_with_keys_asks_for_one_and_the_tab_keeps_it(
    open_page: OpenPage, locked_server: InterlockServer
) -> None:
    page = open_page(origin=locked_server.url)
    page.watch.expected += ["401"]
    expect(page.get_by_role("heading", level=1)).to_have_text("This server asks for an API key")
    page.get_by_label("API key").fill("wrong")
    press(page, "Use this key")
    expect(page.get_by_role("alert")).to_have_text("The server did not accept the key you gave.")
    expect(page.get_by_label("API key")).to_have_value("")
    page.get_by_label("API key").fill(KEY)
    press(page, "Use this key")
    choose(page, "echo")
    ask(page, "let me in")
    expect(answers(page)).to_have_text("let me in")
    page.reload()
    expect(answers(page)).to_have_text("let me in")
    assert page.evaluate("localStorage.length") == 0
