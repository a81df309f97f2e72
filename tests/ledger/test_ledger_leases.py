"""One runner at a time: the fence grows, and a stale runner is refused everywhere."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial

import psutil
import pytest

from refunds.errors import StaleRunner, UnknownRefund
from refunds.ledger import charges, effects, history, leases, requests, schema, waits
from refunds.ledger.book import LEASE_SECONDS
from refunds.models import Outcome
from refunds.process_birth import birth
from sandbox.testing import until
from tests.ledger.ledger_desk import Desk, Runner, at_once

OTHER_HOST = "run-1@elsewhere:7:1"


@pytest.fixture
def neighbour() -> Iterator[subprocess.Popen[bytes]]:
    """Another process of this host, alive until it is killed."""
    command = [sys.executable, "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def holder(process: subprocess.Popen[bytes]) -> str:
    own = leases.holder_of_this_process("run-1")
    return f"{own.rsplit(':', 2)[0]}:{process.pid}:{birth(process.pid)}"


def hold_as(desk: Desk, runner: Runner, name: str) -> None:
    with desk.ledger.page(runner.refund_id, runner.fence) as page:
        page.change(lease_holder=name)


def take(desk: Desk, runner: Runner, run_id: str = "run-1") -> int | None:
    return leases.take(desk.ledger, runner.refund_id, run_id).fence


WRITES: dict[str, Callable[[Desk, Runner], object]] = {
    "open_approval": lambda desk, runner: desk.ask(runner),
    "intend": lambda desk, runner: desk.intend(runner, "sync_crm"),
    "send_again": lambda desk, runner: effects.send_again(
        desk.ledger, runner.refund_id, runner.payment_key, runner.fence
    ),
    "record": lambda desk, runner: desk.record(runner, "succeeded"),
    "reserve": lambda desk, runner: charges.reserve(desk.ledger, runner.case, runner.fence),
    "open_wait": lambda desk, runner: waits.open_wait(
        desk.ledger,
        runner.refund_id,
        "approval-1-team",
        reason="person",
        run_id="run-1",
        fence=runner.fence,
    ),
    "append": lambda desk, runner: history.append(
        desk.ledger, runner.refund_id, "note", {}, runner.fence
    ),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_stale_runner_is_refused_in_every_writing_function(desk: Desk, write: str) -> None:
    stale = desk.paying()
    assert take(desk, stale) == stale.fence + 1
    before = desk.events(stale.refund_id)
    with pytest.raises(StaleRunner, match="this runner must stop"):
        WRITES[write](desk, stale)
    assert desk.events(stale.refund_id) == before


@pytest.mark.parametrize("write", WRITES)
def test_a_runner_that_gave_its_lease_back_is_refused(desk: Desk, write: str) -> None:
    runner = desk.paying()
    leases.release(desk.ledger, runner.refund_id, runner.fence)
    with pytest.raises(StaleRunner):
        WRITES[write](desk, runner)


def test_the_fence_grows_with_every_take_over(desk: Desk) -> None:
    runner = desk.run()
    fences = [take(desk, runner) for _ in range(3)]
    assert fences == [runner.fence + 1, runner.fence + 2, runner.fence + 3]


def test_a_stale_runners_release_frees_nothing(desk: Desk) -> None:
    stale = desk.run()
    fence = take(desk, stale)
    leases.release(desk.ledger, stale.refund_id, stale.fence)
    assert fence is not None
    history.append(desk.ledger, stale.refund_id, "note", {}, fence)


def test_the_first_run_to_ask_owns_the_refund(desk: Desk) -> None:
    runner = desk.run()
    lease = leases.take(desk.ledger, runner.refund_id, "run-2")
    assert (lease.fence, lease.held_by) == (None, "run-1")
    history.append(desk.ledger, runner.refund_id, "note", {}, runner.fence)


def test_of_many_runs_that_ask_at_once_one_gets_it(desk: Desk) -> None:
    case = desk.case()
    found = at_once(
        *[partial(leases.take, desk.ledger, case.refund_id, f"run-{n}") for n in range(8)]
    )
    (owner,) = [lease for lease in found if lease.fence is not None]
    assert len({lease.held_by for lease in found if lease is not owner}) == 1


def test_a_run_that_was_assigned_takes_over_and_fences_off_the_one_before(desk: Desk) -> None:
    stale = desk.run()
    with desk.ledger.page(stale.refund_id) as page:
        leases.assign(page, "run-2", 2)
    with pytest.raises(StaleRunner):
        history.append(desk.ledger, stale.refund_id, "note", {}, stale.fence)
    assert take(desk, stale) is None
    assert take(desk, stale, "run-2") == stale.fence + 2


def test_a_refund_that_is_over_says_how_it_ended(desk: Desk) -> None:
    runner = desk.run()
    with desk.ledger.page(runner.refund_id, runner.fence) as page:
        page.change(outcome="PAID")
    lease = leases.take(desk.ledger, runner.refund_id, "run-1")
    assert (lease.fence, lease.outcome) == (None, Outcome.PAID)


def test_a_living_process_of_this_host_keeps_its_lease(
    desk: Desk, neighbour: subprocess.Popen[bytes]
) -> None:
    runner = desk.run()
    hold_as(desk, runner, holder(neighbour))
    assert take(desk, runner) is None


def test_a_dead_process_of_this_host_is_taken_over_at_once(
    desk: Desk, neighbour: subprocess.Popen[bytes]
) -> None:
    runner = desk.run()
    hold_as(desk, runner, holder(neighbour))
    neighbour.kill()
    neighbour.wait()
    assert take(desk, runner) == runner.fence + 1


def test_a_killed_process_that_nobody_buried_is_taken_over_at_once(
    desk: Desk, neighbour: subprocess.Popen[bytes]
) -> None:
    runner = desk.run()
    hold_as(desk, runner, holder(neighbour))
    neighbour.kill()
    until(lambda: psutil.Process(neighbour.pid).status() == psutil.STATUS_ZOMBIE)
    assert take(desk, runner) == runner.fence + 1


def test_another_process_with_the_number_of_a_dead_one_does_not_hold_its_lease(
    desk: Desk, neighbour: subprocess.Popen[bytes]
) -> None:
    runner = desk.run()
    place, _, born = holder(neighbour).rpartition(":")
    hold_as(desk, runner, f"{place}:{born}0")
    assert take(desk, runner) == runner.fence + 1


def test_a_holder_that_another_version_wrote_keeps_its_lease_until_it_runs_out(
    desk: Desk,
) -> None:
    runner = desk.run()
    own = leases.holder_of_this_process("run-1")
    hold_as(desk, runner, f"{own.rsplit(':', 2)[0]}:of:tomorrow")
    assert take(desk, runner) is None
    desk.clock.advance(LEASE_SECONDS)
    assert take(desk, runner) == runner.fence + 1


def test_another_hosts_lease_is_taken_over_when_it_runs_out_and_not_before(desk: Desk) -> None:
    runner = desk.run()
    hold_as(desk, runner, OTHER_HOST)
    desk.clock.advance(LEASE_SECONDS - 1)
    assert take(desk, runner) is None
    desk.clock.advance(1)
    assert take(desk, runner) == runner.fence + 1


def test_whatever_the_runner_writes_renews_its_lease(desk: Desk) -> None:
    runner = desk.run()
    hold_as(desk, runner, OTHER_HOST)
    desk.clock.advance(LEASE_SECONDS - 1)
    history.append(desk.ledger, runner.refund_id, "note", {}, runner.fence)
    desk.clock.advance(LEASE_SECONDS - 1)
    assert take(desk, runner) is None


def test_nobody_takes_the_lease_of_an_unknown_refund(desk: Desk) -> None:
    with pytest.raises(UnknownRefund):
        leases.take(desk.ledger, "rf_nobody", "run-1")


def test_a_lease_from_before_a_clock_was_set_back_holds_nobody_up(desk: Desk) -> None:
    case = desk.case()
    desk.clock.advance(3_600)
    desk.run(case)
    _held_by_another_host(desk, case.refund_id)
    assert leases.is_held(requests.read(desk.ledger, case.refund_id), desk.ledger)
    desk.clock.advance(-3_600)
    assert not leases.is_held(requests.read(desk.ledger, case.refund_id), desk.ledger)
    assert leases.take(desk.ledger, case.refund_id, "run-1").fence is not None


def test_a_living_process_of_this_host_keeps_its_lease_when_the_clock_is_set_back(
    desk: Desk,
) -> None:
    case = desk.case()
    desk.clock.advance(3_600)
    desk.run(case)
    desk.clock.advance(-3_600)
    assert leases.is_held(requests.read(desk.ledger, case.refund_id), desk.ledger)


def _held_by_another_host(desk: Desk, refund_id: str) -> None:
    with desk.ledger.writing() as connection:
        connection.execute(
            schema.refunds.update()
            .where(schema.refunds.c.refund_id == refund_id)
            .values(lease_holder=OTHER_HOST)
        )
