"""What a person does with the console, and where it shows what came of it."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from playwright.sync_api import Locator, Page, expect


def choose(page: Page, assistant: str) -> None:
    """Choose whom to ask in a new thread."""
    page.get_by_label("Assistant").select_option(label=assistant)


def ask(page: Page, text: str) -> None:
    """Write a message and send it."""
    field = page.get_by_label("Message")
    field.fill(text)
    field.press("Enter")
    page.wait_for_function("text => document.querySelector('#message')?.value !== text", arg=text)


def press(page: Page, name: str) -> None:
    """Press a button."""
    page.get_by_role("button", name=name, exact=True).click()


def conversation(page: Page) -> Locator:
    """The visible conversation; the announcements repeat its text for screen readers."""
    return page.get_by_role("region", name="Conversation")


def answers(page: Page) -> Locator:
    """The text of every message of the assistant."""
    return conversation(page).locator(".entry.ai .prose")


def log(page: Page) -> Locator:
    """What screen readers are told."""
    return page.get_by_role("log")


def card(page: Page, title: str) -> Locator:
    """A question to a person."""
    return page.get_by_role("region", name=title)


def ended(page: Page) -> None:
    """Wait until what was begun is no longer under way."""
    # Before its thread is shown, a first question has not begun.
    expect(conversation(page)).to_be_visible()
    expect(page.get_by_role("button", name="Stop", exact=True)).to_have_count(0)


def thread_id(page: Page) -> str:
    """Id of the thread that is open."""
    expect(page).to_have_url(re.compile("#/threads/"))
    return urlsplit(page.url).fragment.rsplit("/", 1)[1]
