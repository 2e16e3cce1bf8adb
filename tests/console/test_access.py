"""Everybody can use it: keyboard, screen reader, narrow and wide, light and dark."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from .acts import ask, card, choose, conversation, ended
from .conftest import OpenPage

Check = Callable[[Page], None]
LOOKS = [(1280, "light"), (1280, "dark"), (400, "light"), (400, "dark")]


@pytest.fixture(scope="session")
def accessible(packages: Path) -> Check:
    """Fails with every accessibility rule that the page breaks, and where."""
    rules = (packages / "axe-core" / "axe.min.js").read_text()

    def check(page: Page) -> None:
        # Evaluated by the debugger, not as a script of the page: its policy would forbid that.
        page.evaluate(rules)
        broken: list[Any] = page.evaluate("axe.run(document).then(result => result.violations)")
        told = [f"{rule['id']}: {[node['target'] for node in rule['nodes']]}" for rule in broken]
        assert not told, "\n".join(told)
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, f"the page is {wide} px too wide"

    return check


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_no_view_breaks_an_accessibility_rule(
    open_page: OpenPage, accessible: Check, width: int, scheme: str
) -> None:
    page = open_page(width=width, scheme=scheme)
    start = page.url
    expect(page.get_by_label("Message")).to_be_visible()
    accessible(page)

    choose(page, "echo")
    ask(
        page,
        "# A\n\n- b `c`\n\n```\n"
        + "d" * 300
        + "\n```\n\n| e | f |\n|---|---|\n| 1 | [g](https://example.com) |",
    )
    expect(page.get_by_role("button", name="Stop", exact=True)).to_be_visible()
    accessible(page)
    ended(page)
    accessible(page)

    for assistant, title in (
        ("route", "The graph asks you"),
        ("pair", "2 calls need your decision"),
        ("ramble", "Paused at its limit"),
        ("stumble", "The run failed"),
    ):
        page.goto(f"{start}#/")
        choose(page, assistant)
        ask(page, f"Begin with {assistant}")
        expect(card(page, title)).to_be_visible()
        accessible(page)

    page.goto(f"{start}#/")
    choose(page, "assistant")
    ask(page, "Refund 12.50 EUR for order A-1001 because it arrived broken")
    expect(card(page, "Your decision is needed")).to_be_visible()
    page.locator(".call summary").last.click()
    accessible(page)
    page.get_by_role("button", name="Edit…").click()
    page.get_by_label("Arguments, as JSON").fill("{")
    accessible(page)

    page.goto(f"{start}#/")
    choose(page, "form")
    expect(page.get_by_label("Input, as JSON")).to_be_visible()
    accessible(page)

    page.goto(f"{start}#/threads")
    expect(page.locator(".thread-list li").first).to_be_visible()
    accessible(page)
    page.get_by_role("button", name=re.compile("^Delete")).first.click()
    expect(page.get_by_role("dialog")).to_be_visible()
    accessible(page)


def tab_to(page: Page, name: str) -> None:
    """Go on with the tabulator until something of this name has the focus."""
    for _ in range(60):
        page.keyboard.press("Tab")
        focused = page.evaluate(
            "(() => { const e = document.activeElement; return e.labels?.[0]?.innerText"
            " || e.getAttribute('aria-label') || e.innerText; })()"
        )
        if (focused or "").strip().startswith(name):
            return
    pytest.fail(f"the tabulator never came to {name!r}")


def test_a_refund_is_asked_for_reviewed_and_its_thread_deleted_with_the_keyboard_alone(page: Page) -> None:
    expect(page.get_by_label("Message")).to_be_visible()
    tab_to(page, "Skip to the conversation")
    page.keyboard.press("Enter")
    tab_to(page, "Assistant")
    page.keyboard.type("assistant")
    tab_to(page, "Message")
    page.keyboard.type("Refund 4 EUR for order A-1002 because it arrived broken")
    page.keyboard.press("Enter")
    expect(card(page, "Your decision is needed").get_by_role("heading", level=2)).to_be_focused()
    # Buttons take no focus as long as the run that asked is still ending.
    expect(page.get_by_role("button", name="Reject…")).to_be_enabled()
    tab_to(page, "Reject…")
    page.keyboard.press("Enter")
    page.keyboard.type("Too late")
    tab_to(page, "Reject")
    page.keyboard.press("Enter")
    expect(card(page, "Your decision is needed")).to_have_count(0)
    expect(conversation(page)).to_be_focused()
    ended(page)
    expect(conversation(page).locator(".call", has_text="order_refund")).to_contain_text("rejected")

    tab_to(page, "New thread")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    tab_to(page, "Delete “Refund 4 EUR")
    page.keyboard.press("Enter")
    tab_to(page, "Delete")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_role("navigation").get_by_text("Refund 4 EUR")).to_have_count(0)


def test_the_focus_goes_to_the_heading_of_a_new_view(page: Page) -> None:
    choose(page, "echo")
    ask(page, "hello there")
    ended(page)
    expect(page.get_by_label("Message")).to_be_focused()
    page.get_by_role("link", name="New thread").click()
    expect(page.get_by_role("heading", name="What shall we work on?")).to_be_focused()
    page.get_by_role("link", name=re.compile("^hello there")).first.click()
    expect(page.get_by_role("heading", level=1, name="hello there")).to_be_focused()
    expect(page).to_have_title("hello there · Interlock")


def test_what_has_the_focus_is_seen(page: Page) -> None:
    expect(page.get_by_label("Message")).to_be_visible()
    for _ in range(6):
        page.keyboard.press("Tab")
        style = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert style == "solid", page.evaluate("document.activeElement.outerHTML")


@pytest.mark.parametrize(("motion", "moving"), [("reduce", 0), ("no-preference", 1)])
def test_nothing_moves_for_those_who_asked_for_stillness(
    open_page: OpenPage, motion: str, moving: int
) -> None:
    page = open_page(motion=motion)
    choose(page, "echo")
    ask(page, " ".join(["word"] * 60))
    expect(page.locator(".tip")).to_be_visible()
    assert page.evaluate("document.getAnimations().length") == moving


def test_a_narrow_page_shows_one_thing_at_a_time(open_page: OpenPage) -> None:
    page = open_page(width=400)
    choose(page, "echo")
    ask(page, "narrow")
    ended(page)
    expect(page.get_by_role("navigation", name="Threads")).to_be_hidden()
    page.get_by_role("link", name="Threads", exact=True).click()
    expect(page.get_by_role("heading", level=1, name="Threads")).to_be_focused()
    expect(conversation(page)).to_have_count(0)
    page.get_by_role("link", name=re.compile("^narrow")).first.click()
    expect(conversation(page)).to_contain_text("narrow")
