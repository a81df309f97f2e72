"""The whole stack as a stranger runs it, and an approver in a real browser."""

import contextlib
import os
import subprocess

from playwright.sync_api import Locator, Page
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from tests.browser.stack import Stack, paid, reviews
from tests.house.patience import PATIENCE_SECONDS
from tests.service.chromium import give_name_and_password

# A person gives up after a few tries; Prefect's own patience with its database is a minute.
_PRESSES = 4
_BUSY_MILLISECONDS = 20_000


def sign_in_to_prefect(page: Page, stack: Stack) -> None:
    """Prefect knows one password and no people."""
    page.goto(f"{stack.prefect_url}/v2/login")
    page.locator("input").fill((stack.home / "prefect-auth").read_text().strip())
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Logout").or_(page.get_by_text("Logout")).first.wait_for()


def press_until_closed(dialog: Locator) -> None:
    """Prefect on SQLite may be too busy to answer; then the form stays, and a person presses again.

    The first of several answers counts.
    """
    for _ in range(_PRESSES - 1):
        dialog.get_by_role("button", name="Resume").click()
        with contextlib.suppress(PlaywrightTimeout):
            dialog.wait_for(state="hidden", timeout=_BUSY_MILLISECONDS)
            return
    dialog.get_by_role("button", name="Resume").click()
    dialog.wait_for(state="hidden")


def open_form(page: Page) -> Locator:
    """Open Prefect's Resume form on a run's page, under every fact that is bound."""
    page.get_by_text("approve?").first.wait_for()
    page.get_by_role("button", name="Open menu").click()
    page.get_by_role("menuitem", name="Resume").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("Digest").wait_for()
    return dialog


def answer(page: Page, stack: Stack, refund_id: str, choice: str, approver: str) -> None:
    """Fill in Prefect's Resume form as a person does."""
    run_id = stack.show(refund_id)["run_id"]
    page.goto(f"{stack.prefect_url}/v2/runs/flow-run/{run_id}")
    dialog = open_form(page)
    dialog.get_by_role("button", name="Select Decision").click()
    page.get_by_role("option", name=choice).click()
    dialog.get_by_role("textbox").nth(0).fill(approver)
    dialog.get_by_role("textbox").nth(1).fill("Looks right")
    if pictures := os.environ.get("PICTURES"):
        page.screenshot(path=f"{pictures}/prefect-resume-form.png")
    press_until_closed(dialog)


def test_an_approver_finishes_one_refund_and_rejects_another_in_the_prefect_ui(
    stack: Stack, page: Page
) -> None:
    approved, rejected = reviews(2, skip=0)
    stack.submit([approved, rejected])
    for request in (approved, rejected):
        stack.until(request["refund_id"], state="awaiting_approval")

    sign_in_to_prefect(page, stack)
    answer(page, stack, approved["refund_id"], "approve", "Alice")
    answer(page, stack, rejected["refund_id"], "reject", "Alice")

    assert stack.until(approved["refund_id"], outcome="PAID")["state"] == "completed"
    assert stack.until(rejected["refund_id"], outcome="REJECTED")["state"] == "completed"
    decision = stack.show(approved["refund_id"])["approval"]["decisions"][0]
    assert (decision["person"], decision["verified"]) == ("Alice", False)
    assert len(paid(stack, approved["refund_id"])) == 1
    assert paid(stack, rejected["refund_id"]) == []
    stack.refunds("verify")


def test_the_prefect_ui_says_why_an_answer_was_refused(stack: Stack, page: Page) -> None:
    (own,) = reviews(1, skip=13)
    stack.submit([{**own, "requested_by": "Alice"}])
    refund_id = own["refund_id"]
    stack.until(refund_id, state="awaiting_approval")
    sign_in_to_prefect(page, stack)
    answer(page, stack, refund_id, "approve", "Alice")
    stack.until_refused(refund_id, "Alice asked for this refund and cannot approve it")
    assert paid(stack, refund_id) == []

    run_id = stack.show(refund_id)["run_id"]
    page.goto(f"{stack.prefect_url}/v2/runs/flow-run/{run_id}")
    open_form(page).get_by_text("Alice asked for this refund and cannot approve it").wait_for()


def test_a_waiting_refund_holds_no_process_and_survives_the_whole_stack_killed(
    stack: Stack,
) -> None:
    (request,) = reviews(1, skip=2)
    stack.submit([request])
    stack.until(request["refund_id"], state="awaiting_approval")
    stack.until_no_run_is_executing()

    stack.kill_everything()
    stack.up()

    assert stack.show(request["refund_id"])["state"] == "awaiting_approval"
    stack.refunds("decide", request["refund_id"], "approve", "--as", "Bob")
    stack.refunds("decide", request["refund_id"], "approve", "--as", "Bob")
    stack.until(request["refund_id"], outcome="PAID")
    assert len(paid(stack, request["refund_id"])) == 1
    stack.refunds("verify")


def test_two_doors_at_once_pay_once(stack: Stack) -> None:
    (request,) = reviews(1, skip=3)
    stack.submit([request])
    stack.until(request["refund_id"], state="awaiting_approval")
    doors = [
        subprocess.Popen(
            [*stack.command, "decide", request["refund_id"], "approve", "--as", person],
            env=stack.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for person in ("Alice", "Bob")
    ]
    assert [door.wait(timeout=PATIENCE_SECONDS) for door in doors] == [0, 0]
    stack.until(request["refund_id"], outcome="PAID")
    assert len(paid(stack, request["refund_id"])) == 1


def test_a_link_in_the_prefect_ui_leads_to_the_timeline_and_another_one_back(
    stack: Stack, page: Page
) -> None:
    (request,) = reviews(1, skip=14)
    refund_id = request["refund_id"]
    stack.submit([request])
    run_id = stack.until(refund_id, state="awaiting_approval")["run_id"]
    sign_in_to_prefect(page, stack)
    run_page = f"{stack.prefect_url}/v2/runs/flow-run/{run_id}"

    page.goto(run_page)
    open_form(page).get_by_role("link", name="Its timeline").click()
    give_name_and_password(page, "ben", stack.password_of("ben"))
    page.get_by_role("heading", name=f"Timeline of {refund_id}").wait_for()
    page.get_by_role("link", name="run 1 in Prefect").click()
    page.wait_for_url(f"{run_page}**")
    page.get_by_text("approve?").first.wait_for()

    stack.refunds("decide", refund_id, "approve", "--as", "ben")
    stack.until(refund_id, outcome="PAID")
    page.goto(run_page)
    page.get_by_role("tab", name="Artifacts").click()
    page.get_by_role("link", name="refund-facts-").click()
    page.get_by_role("link", name="Documentation").wait_for()
    page.get_by_role("link", name="Its timeline", exact=True).click()
    page.get_by_role("heading", name=f"Timeline of {refund_id}").wait_for()
    page.get_by_text("PAID").first.wait_for()
