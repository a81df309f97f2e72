"""The sweep: whatever got stuck is found and set going again. Run it as often as you like."""

from prefect import flow

from tasks import sleepers, upkeep


@flow(name="sweep", persist_result=False)
async def sweep() -> dict[str, int]:
    """Expire, escalate, reconcile, wake, relaunch, report, tidy up; returns how many of each."""
    return {
        "due": await upkeep.end_due_waits(),
        "settled": await upkeep.reconcile_payments(),
        "woken": await upkeep.wake_ended(),
        "relaunched": await upkeep.relaunch_lost(),
        "batches": await upkeep.relaunch_batches(),
        "nights": await upkeep.relaunch_night(),
        "reports": await upkeep.send_reports(),
        "cards": await upkeep.send_unsent_cards(),
        "ended": await sleepers.end_late_sleepers(),
        "forgotten": await upkeep.forget_visits(),
    }
