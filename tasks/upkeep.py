"""Upkeep of refunds that nobody is carrying on: due waits, unsettled payments, lost runs."""

from datetime import date, timedelta

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from refunds.errors import StepFailed
from refunds.ledger import batches, effects, leases, requests, waits
from refunds.ledger.access import rates, sessions
from refunds.models import State
from tasks import books, further_cards, lost_runs, payments, reports, runs

# A refund that began to wait within this time is checked for a run that died lying down: a worker
# finds it as soon as its lease is over, the sweep what no worker was there for.
_JUST_LAIN_DOWN = timedelta(minutes=2)
_FRESH_WAIT = timedelta(hours=1)

# A refund that was just written to is being carried on; looking sooner only costs Prefect time.
_QUIET = timedelta(seconds=15)

# A refund whose runs keep dying is a puzzle for a person.
_MOST_RUNS = 10


@task(name="end_due_waits", cache_policy=NO_CACHE, persist_result=False, timeout_seconds=60)
async def end_due_waits() -> int:
    """End every wait whose time has come; returns how many."""
    return len(waits.end_due(books.ledger()))


@task(name="reconcile_payments", cache_policy=NO_CACHE, persist_result=False, timeout_seconds=600)
async def reconcile_payments() -> int:
    """Ask the gateway about every payment whose ending is not known; returns how many are now."""
    ledger, learned = books.ledger(), 0
    for row in effects.unsettled(ledger):
        refund = requests.read(ledger, row["refund_id"])
        if leases.is_held(refund, ledger):
            continue
        try:
            learned += await payments.reconcile(row)
        except StepFailed as error:
            get_run_logger().warning("%s: not known yet: %s", row["key"], error)
            if error.system == "gateway":
                break
    return learned


@task(name="wake_ended", cache_policy=NO_CACHE, persist_result=False, timeout_seconds=600)
async def wake_ended() -> int:
    """Wake every run whose wait ended and that has not gone on; returns how many."""
    ended = waits.to_wake(books.ledger())
    return await runs.wake_all([refund_id for refund_id, _, _ in ended])


@task(name="relaunch_lost", cache_policy=NO_CACHE, persist_result=False, timeout_seconds=600)
async def relaunch_lost(fresh: timedelta = _FRESH_WAIT) -> int:
    """Start a new run for every refund whose own run is gone; returns how many.

    Left alone are those that began to wait before `fresh`: when they are woken it shows.
    """
    ledger = books.ledger()
    now = ledger.clock()
    quiet = [
        row
        for row in requests.unfinished(ledger, now - fresh)
        if not leases.is_held(row, ledger)
        # A write in the future is of a clock that was set back since: it may be old.
        and (abs(now - row["updated_at"]) > _QUIET or row["lease_holder"] is not None)
    ]
    relaunched = 0
    for row in await lost_runs.among(quiet):
        if row["run_number"] >= _MOST_RUNS:
            _give_up(row["refund_id"])
            continue
        await runs.launch(row["refund_id"], again=True, judged=row)
        relaunched += 1
    return relaunched


async def recover() -> int:
    """What a worker does beside its runs: start again what a dead one left; returns how many.

    It needs no run of its own to do so, which the dead one might still hold the only place for.
    A wake-up that died with the door that gave it is given again, too.
    """
    books.read_blocks()
    await wake_ended.fn()
    return await relaunch_lost.fn(_JUST_LAIN_DOWN) + await relaunch_batches.fn()


@task(name="relaunch_batches", cache_policy=NO_CACHE, persist_result=False, timeout_seconds=600)
async def relaunch_batches() -> int:
    """Start a run for every batch that has work and no run of its own that lives; how many."""
    ledger = books.ledger()
    waiting = {batch.batch_id: batch for batch in batches.to_launch(ledger)}
    lost = await lost_runs.among(
        [
            {"batch_id": batch.batch_id, "run_id": batch.run_id, "lease_holder": batch.lease_holder}
            for batch in waiting.values()
        ]
    )
    for row in lost:
        batch = waiting[row["batch_id"]]
        if batch.deaths >= _MOST_RUNS:
            batches.dissolve(ledger, batch)
        elif batches.read(ledger, batch.batch_id).run_id == batch.run_id:
            # Else a door has started it since it was found.
            await runs.launch_batch(batch.batch_id)
    return len(lost)


@task(name="relaunch_night", cache_policy=NO_CACHE, persist_result=False, timeout_seconds=60)
async def relaunch_night() -> int:
    """Start the night again whose run died before the ledger knew of it; returns how many."""
    run = await lost_runs.night()
    if run is None or run.expected_start_time is None:
        return 0
    given = run.parameters.get("night")
    night = date.fromisoformat(given) if given else run.expected_start_time.date()
    try:
        known = batches.read(books.ledger(), batches.night_id(night))
    except LookupError:
        pass
    else:
        if known.updated_at >= run.expected_start_time:
            # It came so far, and is a batch like any other.
            return 0
    await runs.launch_nightly(night, replaces=str(run.id))
    return 1


@task(name="send_reports", cache_policy=NO_CACHE, persist_result=False, timeout_seconds=300)
async def send_reports() -> int:
    """Send every night's report that has not gone out yet; returns how many went."""
    return await reports.send_due()


@task(name="send_unsent_cards", cache_policy=NO_CACHE, persist_result=False, timeout_seconds=600)
async def send_unsent_cards() -> int:
    """Send the cards whose sender died on the way; returns how many are out now."""
    return await further_cards.send_unsent()


@task(name="forget_visits", cache_policy=NO_CACHE, persist_result=False, timeout_seconds=60)
async def forget_visits() -> int:
    """Drop what the service's doors need no more: full buckets and dead sessions; how many."""
    return rates.forget_full(books.ledger()) + sessions.forget_dead(books.ledger())


def _give_up(refund_id: str) -> None:
    with books.ledger().page(refund_id) as page:
        if page.row["state"] != State.NEEDS_ATTENTION:
            why = f"{_MOST_RUNS} runs died; read their logs, mend the cause, then `refunds resume`"
            page.append("attention.needed", {"why": why})
            page.change(attention=why)
            page.enter(State.NEEDS_ATTENTION)
