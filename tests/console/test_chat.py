"""Asking and being answered, through reloads, cuts and failures."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from ..conftest import InterlockServer
from .acts import answers, ask, choose, conversation, ended, log, press, thread_id
from .conftest import OpenPage, Rows
from .cuts import relay

# Six seconds of words: what happens in the middle of an answer must still be the middle on a slow machine.
LONG = " ".join(f"word-{n}" for n in range(200))
HOSTILE = (
    """<script>window.hacked = 1</script> <img src=x onerror="window.hacked = 1">
[click](javascript:window.hacked=1) [data](data:text/html,<script>1</script>) [file](file:///etc/passwd)
![pixel](https://evil.example/pixel.png) <a href="javascript:window.hacked=1">a</a> <https://good.example/x>

<style>body { display: none }</style><iframe src="https://evil.example"></iframe>

| a | b |
|---|---|
| <svg onload=window.hacked=1> | [x](JaVaScRiPt:window.hacked=1) |

"""
    + ">" * 3000
    + "deep "
    + "*" * 5000
    + "[" * 5000
)


def runs(server: InterlockServer, page: Page) -> list[dict[str, Any]]:
    return httpx.get(f"{server.url}/threads/{thread_id(page)}/runs").json()


def test_the_first_question_makes_a_thread_and_streams_its_answer(page: Page) -> None:
    choose(page, "echo")
    ask(page, LONG)
    answer = answers(page)
    expect(answer).to_contain_text("word-5")
    assert "word-199" not in answer.inner_text(), "the answer came as a whole, not as a stream"
    assert thread_id(page)
    expect(answer).to_have_text(LONG)
    ended(page)
    expect(conversation(page).locator(".entry")).to_have_count(2)
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("^word-0 word-1 .*…$"))
    expect(page.get_by_label("Message")).to_be_focused()
    current = page.get_by_role("navigation").locator("li.current")
    expect(current).to_contain_text("word-0 word-1")
    expect(current).to_contain_text("Done")


def test_the_offline_assistant_answers_with_its_tools(page: Page) -> None:
    choose(page, "assistant")
    ask(page, "What is 17 * 23?")
    ended(page)
    call = conversation(page).locator(".call").first
    expect(call).to_contain_text("calculator")
    expect(call).to_contain_text("done")
    expect(answers(page).last).to_contain_text("391")
    call.locator("summary").click()
    expect(call.get_by_role("heading", name="Result")).to_be_visible()


def test_a_second_question_goes_on_in_the_same_thread(page: Page, server: InterlockServer) -> None:
    choose(page, "echo")
    ask(page, "one")
    ended(page)
    first = thread_id(page)
    ask(page, "two")
    expect(answers(page)).to_have_text(["one", "two"])
    ended(page)
    assert thread_id(page) == first
    assert len(runs(server, page)) == 2


def test_shift_enter_starts_a_line_and_an_empty_message_is_not_sent(page: Page) -> None:
    choose(page, "echo")
    field = page.get_by_label("Message")
    field.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("What shall we work on?")
    field.fill("first line")
    field.press("Shift+Enter")
    page.keyboard.type("second line")
    expect(field).to_have_value("first line\nsecond line")
    field.press("Enter")
    expect(conversation(page).locator(".entry.human .prose")).to_have_text("first line\nsecond line")


@pytest.mark.parametrize("storage", ["kept", "gone"])
def test_a_reload_in_the_middle_of_an_answer_loses_and_doubles_nothing(
    page: Page, server: InterlockServer, storage: str
) -> None:
    choose(page, "echo")
    ask(page, LONG)
    expect(answers(page)).to_contain_text("word-20")
    if storage == "gone":
        page.evaluate("sessionStorage.clear()")
    page.watch.requests.clear()
    page.reload()
    expect(answers(page)).to_contain_text("word-25")
    assert "word-199" not in answers(page).inner_text(), "the run had ended before the page was back"
    expect(answers(page)).to_have_text(LONG)
    ended(page)
    expect(conversation(page).locator(".entry")).to_have_count(2)
    assert conversation(page).inner_text().count("word-60 ") == 2, "once asked, once answered"
    assert len(runs(server, page)) == 1
    joined = [r for r in page.watch.requests if r.url.endswith("/stream")]
    assert [r.all_headers()["last-event-id"] for r in joined] == ["-1"]
    listed = [r for r in page.watch.requests if "/runs?" in r.url]
    assert bool(listed) == (storage == "gone")


def test_a_cut_in_the_middle_of_an_answer_is_said_and_mended_from_the_last_event(
    open_page: OpenPage, server: InterlockServer
) -> None:
    with relay(server.port) as network:
        page = open_page(origin=network.origin)
        page.watch.expected += ["ERR_", "Failed to load resource"]
        choose(page, "echo")
        ask(page, LONG)
        expect(answers(page)).to_contain_text("word-10")
        page.watch.requests.clear()
        network.cut()
        expect(page.get_by_text("Connection lost. Reconnecting…")).to_be_visible()
        expect(log(page)).to_contain_text("Connection lost")
        network.mend()
        expect(answers(page)).to_have_text(LONG)
        ended(page)
        expect(conversation(page).locator(".entry")).to_have_count(2)
        back = [r for r in page.watch.requests if r.method == "GET" and r.url.endswith("/stream")]
        assert all(int(r.all_headers()["last-event-id"].split(".")[0]) > 10 for r in back)
        assert back


def test_a_question_that_cannot_be_sent_waits_for_the_network_and_is_asked_once(
    open_page: OpenPage, server: InterlockServer
) -> None:
    with relay(server.port) as network:
        page = open_page(origin=network.origin)
        page.watch.expected += ["ERR_", "Failed to load resource"]
        choose(page, "echo")
        ask(page, "before")
        ended(page)
        network.cut()
        ask(page, "after the cut")
        expect(page.get_by_text("Connection lost. Reconnecting…")).to_be_visible()
        network.mend()
        expect(answers(page)).to_have_text(["before", "after the cut"])
        ended(page)
        assert len(runs(server, page)) == 2


def test_escape_stops_an_answer_and_the_thread_goes_on(page: Page, server: InterlockServer) -> None:
    choose(page, "echo")
    ask(page, LONG)
    expect(answers(page)).to_contain_text("word-10")
    page.keyboard.press("Escape")
    ended(page)
    expect(page.get_by_text("Stopped before repeat")).to_be_visible()
    expect(answers(page)).to_contain_text("word-10")
    assert [run["status"] for run in runs(server, page)] == ["interrupted"]
    expect(log(page)).to_contain_text("Stopped.")
    ask(page, "and now?")
    expect(answers(page).last).to_have_text("and now?")
    ended(page)


def test_the_stop_button_stops(page: Page, server: InterlockServer) -> None:
    choose(page, "echo")
    ask(page, LONG)
    expect(answers(page)).to_contain_text("word-3")
    press(page, "Stop")
    ended(page)
    press(page, "Continue")
    expect(answers(page)).to_have_text(LONG)
    assert sorted(run["status"] for run in runs(server, page)) == ["interrupted", "success"]


def test_a_failure_says_what_happened_and_the_last_step_can_run_again(page: Page) -> None:
    choose(page, "stumble")
    ask(page, "good morning")
    failed = page.get_by_role("region", name="The run failed")
    expect(failed).to_contain_text("ValueError: the parrot is asleep")
    expect(failed).to_contain_text("Everything before the failure is kept")
    expect(log(page)).to_contain_text("The run failed")
    page.reload()
    expect(failed).to_be_visible()
    press(page, "Run the last step again")
    expect(answers(page)).to_have_text("good morning")
    expect(failed).to_have_count(0)


def test_a_busy_thread_gives_the_question_back(page: Page, server: InterlockServer) -> None:
    choose(page, "echo")
    ask(page, "hello")
    ended(page)
    page.watch.expected += ["409"]
    question = {"messages": [{"type": "human", "content": LONG, "id": "from-elsewhere"}]}
    # Streamed, or the model would give its answer at once.
    run = {"assistant_id": "echo", "input": question, "stream_mode": ["messages-tuple"]}
    httpx.post(f"{server.url}/threads/{thread_id(page)}/runs", json=run).raise_for_status()
    ask(page, "me too")
    expect(page.get_by_role("region", name="The thread is busy")).to_be_visible()
    expect(answers(page).last).to_have_text(LONG)
    ended(page)
    expect(page.get_by_label("Message")).to_have_value("me too")


def test_hostile_output_of_a_model_is_inert(page: Page, server: InterlockServer) -> None:
    choose(page, "echo")
    ask(page, HOSTILE)
    answer = answers(page)
    expect(answer).to_contain_text("deep")
    ended(page)
    assert page.evaluate("window.hacked") is None
    assert answer.locator("script, img, iframe, style, svg").count() == 0
    targets = answer.locator("a").evaluate_all("links => links.map(link => link.getAttribute('href'))")
    assert targets == [
        "https://evil.example/pixel.png",
        "https://good.example/x",
        "https://evil.example",
    ]
    rels = answer.locator("a").evaluate_all("links => links.map(link => link.rel)")
    assert all("noopener" in rel for rel in rels)
    expect(answer).to_contain_text("<script>window.hacked = 1</script>")


def test_an_answer_is_shown_as_the_markdown_it_is(page: Page) -> None:
    text = "# Title\n\nline\nbreak\n\n1. one\n2. **two**\n   - *nested*\n\n> quote\n\n```py\nx = 1\n```\n\n"
    text += "| a | b |\n|---|---|\n| 1 | `2` |"
    choose(page, "echo")
    ask(page, text)
    ended(page)
    answer = answers(page)
    expect(answer.get_by_role("heading", name="Title")).to_be_visible()
    expect(answer.locator("p").first).to_have_text(re.compile("^line\\s*break$"))
    expect(answer.locator("p br")).to_have_count(1)
    expect(answer.locator("ol > li")).to_have_count(2)
    expect(answer.locator("ol > li strong")).to_have_text("two")
    expect(answer.locator("ol ul em")).to_have_text("nested")
    expect(answer.locator("blockquote")).to_have_text("quote")
    expect(answer.locator("pre code")).to_have_text("x = 1")
    expect(answer.get_by_role("columnheader")).to_have_text(["a", "b"])
    expect(answer.locator("td code")).to_have_text("2")


def test_screen_readers_are_told_whole_messages_not_tokens(page: Page) -> None:
    choose(page, "echo")
    ask(page, LONG)
    expect(answers(page)).to_contain_text("word-30")
    assert "word-0" not in log(page).inner_text()
    ended(page)
    expect(log(page).locator("p")).to_have_text([LONG])


def test_a_graph_that_does_not_talk_takes_its_input_as_json(page: Page) -> None:
    choose(page, "form")
    field = page.get_by_label("Input, as JSON")
    field.fill('{"text": "fire", }')
    expect(page.get_by_text("This is not valid JSON")).to_be_visible()
    expect(page.get_by_role("button", name="Run", exact=True)).to_be_disabled()
    field.fill('{"text": "fire", "urgent": true}')
    press(page, "Run")
    state = conversation(page).locator(".state")
    expect(state.get_by_role("row", name="answer FIRE!")).to_be_visible()
    expect(state.get_by_role("row", name="urgent yes")).to_be_visible()


def test_a_thread_that_is_gone_says_so(open_page: OpenPage, rows: Rows) -> None:
    page = open_page("#/threads/0188a1b2-0000-7000-8000-000000000000")
    page.watch.expected += ["404"]
    expect(page.get_by_role("heading", level=1)).to_have_text("This thread does not exist")
