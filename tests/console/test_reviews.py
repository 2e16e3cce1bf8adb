"""What waits for a person: it is decided once, on the console and in fact."""

from __future__ import annotations

import re

import httpx
from playwright.sync_api import Page, expect

from ..servers import InterlockServer
from .acts import answers, ask, card, choose, conversation, ended, log, press, thread_id
from .conftest import OpenPage, Rows

NEEDED = "Your decision is needed"
REFUNDS = "SELECT order_id, amount_cents FROM interlock.order_refunds ORDER BY order_id, created_at"


def refund(page: Page, order: str, amount: str) -> None:
    """Ask for a refund and wait until it waits."""
    choose(page, "assistant")
    ask(page, f"Refund {amount} EUR for order {order} because it arrived broken")
    expect(card(page, NEEDED)).to_be_visible()


def refunds(rows: Rows, order: str) -> list[int]:
    return [amount for order_id, amount in rows(REFUNDS) if order_id == order]


def test_a_refund_waits_and_an_approval_makes_it_once(
    page: Page, rows: Rows, server: InterlockServer
) -> None:
    refund(page, "A-1001", "12.50")
    question = card(page, NEEDED)
    expect(question.get_by_role("row", name="order_id A-1001").first).to_be_visible()
    expect(question.get_by_role("row", name="amount_cents 1250")).to_be_visible()
    expect(question.get_by_role("heading", name="What it would do")).to_be_visible()
    expect(question.get_by_role("row", name="left_afterwards 136.50 EUR")).to_be_visible()
    expect(conversation(page).locator(".call.waiting")).to_contain_text("waiting for you")
    expect(page.get_by_role("navigation").locator("li.current")).to_contain_text("Waiting for you")
    expect(log(page)).to_contain_text("Waiting for your decision: order_refund")
    assert refunds(rows, "A-1001") == []

    question.get_by_role("button", name="Approve").dblclick()
    ended(page)
    expect(question).to_have_count(0)
    expect(conversation(page).locator(".call", has_text="order_refund")).to_contain_text("done")
    assert refunds(rows, "A-1001") == [1250]
    assert len(httpx.get(f"{server.url}/threads/{thread_id(page)}/runs").json()) == 2


def test_edited_arguments_are_checked_and_then_count(page: Page, rows: Rows) -> None:
    refund(page, "A-1002", "20")
    press(page, "Edit…")
    field = page.get_by_label("Arguments, as JSON")
    expect(field).to_be_focused()
    good = field.input_value()
    field.fill("[1, 2]")
    expect(page.get_by_text("Arguments are a JSON object")).to_be_visible()
    field.fill('{"order_id": ')
    expect(page.get_by_text(re.compile("not valid JSON"))).to_be_visible()
    expect(page.get_by_role("button", name="Approve with these arguments")).to_be_disabled()

    page.watch.expected += ["422"]
    field.fill(good.replace("2000", '"much"'))
    press(page, "Approve with these arguments")
    expect(page.get_by_role("region", name="The server did not accept this")).to_contain_text("amount_cents")
    expect(field).to_have_value(good.replace("2000", '"much"'))
    field.fill(good.replace("2000", "700"))
    press(page, "Approve with these arguments")
    ended(page)
    expect(card(page, NEEDED)).to_have_count(0)
    assert refunds(rows, "A-1002") == [700]


def test_a_rejection_carries_its_reason_and_nothing_happens(page: Page, rows: Rows) -> None:
    refund(page, "A-1003", "5")
    press(page, "Reject…")
    reason = page.get_by_label("Reason")
    expect(reason).to_be_focused()
    reason.press("Escape")
    expect(page.get_by_role("button", name="Approve")).to_be_focused()
    press(page, "Reject…")
    reason.fill("Not covered by the warranty")
    press(page, "Reject")
    ended(page)
    call = conversation(page).locator(".call", has_text="order_refund")
    expect(call).to_contain_text("rejected")
    call.locator("summary").click()
    expect(call).to_contain_text("Not covered by the warranty")
    assert refunds(rows, "A-1003") == []


def test_a_person_can_answer_in_place_of_the_tool(page: Page, rows: Rows) -> None:
    refund(page, "A-1004", "1")
    press(page, "Answer instead…")
    page.get_by_label("Your answer, in place of the tool's result").fill("Paid out in cash")
    press(page, "Send answer")
    ended(page)
    expect(conversation(page).locator(".call", has_text="order_refund")).to_contain_text(
        "answered by a person"
    )
    assert refunds(rows, "A-1004") == []


def test_the_second_of_two_people_hears_that_it_is_decided(open_page: OpenPage, rows: Rows) -> None:
    first = open_page()
    refund(first, "A-1005", "3")
    second = open_page(f"#/threads/{thread_id(first)}")
    expect(card(second, NEEDED)).to_be_visible()
    first.get_by_role("button", name="Approve").click()
    ended(first)
    second.watch.expected += ["409"]
    second.get_by_role("button", name="Approve").click()
    expect(conversation(second).get_by_text("This was already decided")).to_be_visible()
    expect(card(second, NEEDED)).to_have_count(0)
    assert refunds(rows, "A-1005") == [300]


def test_a_reply_to_a_customer_is_sent_as_a_person_changed_it(page: Page) -> None:
    choose(page, "triage")
    ask(page, "I am furious, your staff was rude to me and I waited an hour")
    expect(card(page, NEEDED)).to_contain_text("Reply to a complaint")
    press(page, "Edit…")
    page.get_by_label("Arguments, as JSON").fill('{"text": "We are **sorry**."}')
    press(page, "Approve with these arguments")
    expect(answers(page).last).to_have_text("We are sorry.")
    ended(page)


def test_several_calls_are_decided_one_by_one_and_sent_together(page: Page) -> None:
    choose(page, "pair")
    ask(page, "both please")
    question = card(page, "2 calls need your decision")
    send = question.get_by_role("button", name="Send all decisions")
    expect(send).to_be_disabled()
    question.get_by_role("button", name="Approve").first.click()
    question.get_by_role("button", name="Reject…").click()
    question.get_by_role("button", name="Reject", exact=True).click()
    expect(question).to_contain_text("Approved.")
    send.click()
    expect(answers(page)).to_have_text("Decided: approve, reject.")


def test_a_question_in_a_graphs_own_words_is_answered_in_text_or_json(page: Page) -> None:
    choose(page, "route")
    ask(page, "My bill is wrong")
    question = card(page, "The graph asks you")
    expect(question.get_by_role("row", name="question Which team takes this case?")).to_be_visible()
    question.get_by_label("Your answer").fill("billing")
    question.get_by_role("button", name="Answer").click()
    expect(answers(page)).to_have_text("It goes to 'billing'.")
    ended(page)

    page.goto(page.url.split("#")[0] + "#/")
    ask(page, "And this?")
    question.get_by_label("The answer is JSON").check()
    question.get_by_label("Your answer, as JSON").fill('["billing", 2]')
    question.get_by_role("button", name="Answer").click()
    expect(answers(page)).to_have_text("It goes to ['billing', 2].")


def test_a_run_that_paused_at_its_limit_goes_on_with_more(page: Page) -> None:
    choose(page, "ramble")
    ask(page, "Walk")
    paused = card(page, "Paused at its limit")
    expect(paused).to_be_visible()
    expect(answers(page)).to_have_text(["Step 1 of 4.", "Step 2 of 4."])
    amount = paused.get_by_label("Continue with")
    amount.fill("0")
    expect(paused.get_by_role("button", name="Continue")).to_be_disabled()
    amount.fill("1")
    press(page, "Continue")
    expect(answers(page).last).to_have_text("Step 3 of 4.")
    ended(page)
    expect(paused).to_be_visible()
    press(page, "Continue")
    expect(answers(page).last).to_have_text("Step 4 of 4.")
    ended(page)
    expect(paused).to_have_count(0)


def test_a_run_that_paused_at_its_limit_can_stay_stopped(page: Page) -> None:
    choose(page, "ramble")
    ask(page, "Walk")
    expect(card(page, "Paused at its limit")).to_be_visible()
    press(page, "Stop here")
    ended(page)
    expect(card(page, "Paused at its limit")).to_have_count(0)
    expect(answers(page)).to_have_count(2)


def test_a_waiting_question_survives_a_reload(page: Page) -> None:
    choose(page, "route")
    ask(page, "Who?")
    expect(card(page, "The graph asks you")).to_be_visible()
    page.reload()
    expect(card(page, "The graph asks you")).to_be_visible()
    expect(page.get_by_text("Answer above to go on.")).to_be_visible()
