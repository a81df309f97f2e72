"""The warm worker, from outside: a server, a worker and flows as processes."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from prefect.blocks.system import Secret
from prefect.client.schemas.objects import StateType
from prefect.states import Pending
from warm_worker_world import World, is_gone

from deployments.process_identity import ProcessIdentity
from deployments.warm_worker_recovery import claim
from refunds.ledger import LedgerStorage, connector, migrate
from refunds.process_birth import birth
from tests.house.patience import PATIENCE_SECONDS, until


def test_a_run_is_forked_from_the_template_and_an_event_starts_it(world: World) -> None:
    worker = world.start_worker()
    run = world.submit("trace", job_variables={"env": {"TINT": "mauve"}})
    run.until("Completed")
    pid, parent, tint = run.trace("trace").split()
    assert tint == "mauve"
    assert parent in [str(child.pid) for child in psutil.Process(worker.pid).children()]
    identity = ProcessIdentity.parse(run.read().infrastructure_pid)
    assert identity is not None
    assert identity.pid == int(pid)


def test_the_limit_holds_and_a_freed_slot_takes_the_next_run(world: World) -> None:
    world.start_worker(limit=2)
    first, second = world.submit("linger"), world.submit("linger")
    third = world.submit("linger")
    assert first.pid() != second.pid()
    assert third.state().is_scheduled()
    first.let_go()
    third.pid()
    second.let_go()
    third.let_go()
    for run in (first, second, third):
        run.until("Completed")


def test_a_killed_child_is_reported_as_crashed_exactly_once(world: World) -> None:
    world.start_worker(limit=1)
    run = world.submit("linger")
    run.kill()
    assert "exit code -9" in (run.until("Crashed").message or "")
    assert run.trace("crash-hook") == "linger Crashed"
    # With one slot, the next run only starts when the crash is dealt with.
    world.submit("trace").until("Completed")
    assert run.count(StateType.CRASHED) == 1


def test_a_suspended_run_holds_no_process_and_goes_on_when_resumed(
    world: World,
) -> None:
    world.start_worker()
    run = world.submit("ask")
    run.until("Suspended")
    asked = run.pid("asked")
    until(lambda: is_gone(asked), "the process has ended")
    assert run.state().name == "Suspended"
    world.client.resume_flow_run(run.id)
    assert run.pid("answered") != asked
    run.until("Completed")
    assert run.count(StateType.CRASHED) == 0


def test_a_step_that_was_done_before_a_run_lay_down_is_on_its_page_once(
    world: World, tmp_path: Path
) -> None:
    ledger_url = f"sqlite:///{tmp_path}/ledger.db"
    migrate(ledger_url)
    LedgerStorage(connector=connector(ledger_url)).save("memory", overwrite=True)
    world.start_worker()
    run = world.submit("rest")
    first = run.pid("rested")
    run.until("Suspended")
    world.client.resume_flow_run(run.id)
    run.until("Completed")
    assert run.trace("memory").startswith(f"remembered by {first}, recalled by ")
    assert not run.trace("memory").endswith(f" by {first}")
    until(lambda: len(run.steps()) >= 2, "both steps are on the page")
    assert run.steps() == ["Completed recall", "Completed remember"]
    log = (world.directory / "worker.log").read_text()
    assert "Traceback" not in log
    assert not re.search(r"Service .* failed", log)


def test_a_run_resumed_while_its_process_still_ends_goes_on(world: World) -> None:
    world.start_worker()
    run = world.submit("ask")
    run.until("Suspended")
    asked = run.pid("asked")
    world.client.resume_flow_run(run.id)
    assert run.pid("answered") != asked
    run.until("Completed")


@pytest.mark.parametrize("trace", ["started", "strode-1", "strode-30"])
def test_a_run_that_is_suspended_from_outside_ends_its_process_and_goes_on(
    world: World, trace: str
) -> None:
    world.start_worker()
    run = world.submit("stroll")
    strolling = run.pid(trace)
    run.suspend()
    until(lambda: is_gone(strolling), "the process has ended")
    assert run.state().name == "Suspended"
    world.client.resume_flow_run(run.id)
    until(lambda: run.pid() != strolling, "another process goes on")
    run.let_go()
    run.until("Completed")
    assert run.count(StateType.CRASHED) == 0


def test_a_run_loads_the_blocks_that_its_pool_names_and_others(
    new_world: Callable[..., World],
) -> None:
    world = new_world(blocks=["secret/told", "secret/missing"])
    Secret(value="plover").save("told", overwrite=True)
    Secret(value="xyzzy").save("untold", overwrite=True)
    world.start_worker()
    run = world.submit("confide")
    assert run.trace("words") == "plover xyzzy plover"
    run.until("Completed")


def test_the_events_of_a_run_name_its_flow_and_where_it_runs(world: World) -> None:
    world.start_worker()
    run = world.submit("stroll")
    run.pid("strode-1")
    run.let_go()
    run.until("Completed")

    def told() -> set[tuple[str, str]]:
        """What the events of its steps say that they are related to."""
        wanted = {"related": {"id": [f"prefect.flow-run.{run.id}"]}}
        wanted["event"] = {"prefix": ["prefect.task-run.Completed"]}
        found = world.client.request("POST", "/events/filter", json={"filter": wanted}).json()
        return {
            (related["prefect.resource.role"], related.get("prefect.resource.name"))
            for event in found["events"]
            for related in event["related"]
        }

    deployment, pool, queue = world.name, world.name, "default"
    expected = {
        ("flow-run", run.read().name),
        ("flow", "stroll"),
        ("deployment", deployment),
        ("work-queue", queue),
        ("work-pool", pool),
    }
    until(lambda: told() == expected, f"its events name {expected}")


def test_a_cancelled_run_is_ended_with_its_hook_and_no_crash(world: World) -> None:
    world.start_worker()
    run = world.submit("linger")
    pid = run.pid()
    run.cancel()
    run.until("Cancelled")
    assert is_gone(pid)
    assert run.trace("cancellation-hook") == "linger Cancelling"
    assert run.count(StateType.CRASHED) == 0


def test_an_edited_source_is_used_by_the_next_run_only(world: World) -> None:
    world.start_worker()
    under_way = world.submit("linger")
    under_way.pid()
    text = world.source.read_text()
    world.source.write_text(text.replace('EDITION = "first"', 'EDITION = "second"'))
    edited = world.submit("trace")
    assert edited.trace("edition") == "second"
    under_way.let_go()
    under_way.until("Completed")


def test_a_broken_import_crashes_the_run_with_its_reason_not_the_worker(
    world: World,
) -> None:
    world.start_worker()
    world.submit("trace").until("Completed")
    text = world.source.read_text()
    world.source.write_text(text + "\nimport no_such_library\n")
    broken = world.submit("trace")
    assert "no_such_library" in (broken.until("Crashed").message or "")
    assert broken.count(StateType.CRASHED) == 1
    world.source.write_text(text)
    world.submit("trace").until("Completed")


def test_a_dead_template_is_replaced_and_its_children_go_on(world: World) -> None:
    worker = world.start_worker()
    under_way = world.submit("linger")
    under_way.pid()
    (template,) = psutil.Process(worker.pid).children()
    template.kill()
    world.submit("trace").until("Completed")
    under_way.let_go()
    under_way.until("Completed")


def test_a_drained_worker_lets_its_runs_finish(world: World) -> None:
    worker = world.start_worker()
    run = world.submit("linger")
    run.pid()
    worker.send_signal(signal.SIGTERM)
    waiting = world.submit("trace")
    run.let_go()
    worker.wait(PATIENCE_SECONDS)
    assert run.state().is_completed()
    assert waiting.state().is_scheduled()


def test_a_run_that_outlasts_the_drain_goes_on_with_the_next_worker(
    world: World,
) -> None:
    worker = world.start_worker(WARM_WORKER_DRAIN_SECONDS="0")
    run = world.submit("linger")
    first = run.pid()
    worker.send_signal(signal.SIGTERM)
    worker.wait(PATIENCE_SECONDS)
    assert is_gone(first)
    assert run.state().name == "AwaitingRetry"
    world.start_worker()
    until(lambda: run.pid() != first, "another process has started")
    run.let_go()
    run.until("Completed")
    assert run.count(StateType.CRASHED) == 0


def test_a_killed_worker_leaves_its_runs_to_finish(world: World) -> None:
    worker = world.start_worker()
    run = world.submit("linger")
    run.pid()
    worker.kill()
    worker.wait()
    run.let_go()
    run.until("Completed")
    until(lambda: is_gone(run.pid()), "the orphan has ended")


def test_the_next_worker_reports_what_died_and_takes_what_was_never_started(
    world: World,
) -> None:
    worker = world.start_worker()
    identity = ProcessIdentity.local(worker.pid, birth(worker.pid))
    run = world.submit("linger")
    run.pid()
    worker.kill()
    worker.wait()
    run.kill()
    claimed = world.submit("trace", state=Pending(message=claim(identity)))
    world.start_worker()
    until(lambda: run.state().is_final(), "the run has ended")
    claimed.until("Completed")
    assert run.state().is_crashed()
    assert run.count(StateType.CRASHED) == 1


def test_the_next_worker_ends_an_orphan_that_is_to_be_cancelled(world: World) -> None:
    worker = world.start_worker()
    run = world.submit("linger")
    pid = run.pid()
    worker.kill()
    worker.wait()
    run.cancel()
    world.start_worker()
    run.until("Cancelled")
    assert is_gone(pid)
    assert run.count(StateType.CRASHED) == 0


def test_an_orphan_does_not_outlive_its_time(new_world: Callable[..., World]) -> None:
    world = new_world(orphan_seconds=0)
    worker = world.start_worker()
    pid = world.submit("linger").pid()
    os.kill(worker.pid, signal.SIGKILL)
    until(lambda: is_gone(pid), "the orphan has ended")


def test_the_stock_process_worker_runs_the_same_deployment(
    new_world: Callable[..., World],
) -> None:
    world = new_world("process")
    world.start_worker()
    world.submit("trace").until("Completed")
