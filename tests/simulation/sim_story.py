"""A story: some refunds, much that goes wrong, then calm; everything has to end well."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any

import httpx
import sqlalchemy as sa
from prefect.client.schemas.objects import StateType
from prefect.states import Completed, Crashed, Failed, Running, Scheduled

from flows.batch import batch as batch_flow
from flows.refund import refund as refund_flow
from flows.sweep import sweep as sweep_flow
from refunds.api import AsyncRefunds
from refunds.errors import BadInput, Conflict, StepFailed
from refunds.ledger import bursts, requests, schema
from refunds.models import RefundRequest
from refunds.service import gateway_events
from tasks import runs
from tasks.gateways import stripe_events
from tests.simulation import sim_checks
from tests.simulation.sim_actors import Actor, Process
from tests.simulation.sim_outside import Outside
from tests.simulation.sim_prefect import FakePrefect, Run, Suspended
from tests.simulation.sim_tape import Tape
from tests.simulation.sim_wiring import Wiring

HOSTS = ("ash", "birch")

# (kind, order, item, amount, goodwill): by the rules alone, by one person, by a verified one,
# by two people, and two that ask for the same money.
_WANTED = (
    ("return", "#W1", "i1", 10_000, 500),
    ("return", "#W2", "i1", 200_000, 0),
    ("cancel", "#W3", "i1", 1_200_000, 500),
    ("return", "#W1", "i2", 10_000, 0),
    ("return", "#W1", "i1", 10_000, 0),
    ("cancel", "#W4", "i1", 600_000, 0),
)
_ORDERS = {
    "#W1": ("delivered", {"i1": 10_000, "i2": 10_000}),
    "#W2": ("delivered", {"i1": 200_000}),
    "#W3": ("pending", {"i1": 1_200_000}),
    "#W4": ("pending", {"i1": 600_000}),
}
_BURSTS_FROM = (1_000, 1, 0)  # A story has three refunds: so few make a burst in some.
_PAUSES_SECONDS = (31, 50, 600, 7_200, 90_000)
# Runs that die are given up after ten: a story stays below.
_MOST_KILLS = 7
_CALM_ROUNDS = 90


class Story:
    """One story, told by a tape."""

    def __init__(self, wiring: Wiring, tape: Tape) -> None:
        self.tape, self.wiring = tape, wiring
        self.actors: list[Actor] = []
        self.dead: list[Actor] = []
        self.kills = 0
        self.steps = 0
        self.decided: dict[str, str] = {}
        now = datetime(2026, 11, 25, 12, tzinfo=UTC)
        self.outside = Outside(
            tape,
            clock=lambda: wiring.now,
            on_payment=lambda made: sim_checks.may_pay(wiring.engine, made),
        )
        self.prefect = FakePrefect(clock=lambda: wiring.now)
        wiring.begin(now, self.outside, self.prefect)
        self._open_shop()

    def tell(self, length: int) -> None:
        """Trouble for `length` moments, then calm. Raises Violated."""
        self.wiring.burst_from = _BURSTS_FROM[self.tape.below(len(_BURSTS_FROM))]
        first = self.tape.below(len(_WANTED))
        for number in range(1 + self.tape.below(3)):
            self._submit(number, _WANTED[(first + number) % len(_WANTED)])
        try:
            for _ in range(length):
                self._moment()
            self.tape.calm()
            self._calm_down()
            sim_checks.in_the_end(self.wiring.engine, self.outside)
            sim_checks.no_decision_was_lost(self.wiring.engine, self.decided)
        finally:
            self.wiring.bury([*self.dead, *self.actors])

    # --- One moment ---

    def _moment(self) -> None:
        if self.actors and not self.tape.happens(12):
            actor = self.actors[self.tape.below(len(self.actors))]
            for _ in range(1 + self.tape.below(8)):
                self._step(actor)
                if actor.is_done:
                    break
        else:
            troubles = self._troubles()
            troubles[self.tape.below(len(troubles))]()

    def _step(self, actor: Actor) -> None:
        self.steps += 1
        self.wiring.now += timedelta(milliseconds=20)
        self.wiring.step(actor)
        if self.wiring.unforeseen:
            # A batch goes on with its other refunds.
            raise sim_checks.Violated(str(self.wiring.unforeseen[0])) from self.wiring.unforeseen[0]
        sim_checks.at_any_time(self.wiring.driver, self.outside)
        if actor.is_done:
            self.actors.remove(actor)
            self._ended(actor)

    def _start(self, name: str, work: Any, process: Process | None = None) -> Actor:
        actor = Actor(name, process or Process(self._host()), work)
        self.actors.append(actor)
        return actor

    def _host(self) -> str:
        return HOSTS[self.tape.below(len(HOSTS))]

    # --- What may happen ---

    def _troubles(self) -> tuple[Callable[[], None], ...]:
        return (
            *(self._work, self._work, self._sweep, self._decide, self._decide),
            *(self._kill, self._kill, self._kill_host, self._start_twice),
            *(self._answer_in_the_ui, self._force_resume, self._webhook, self._settle),
            *(self._pass_time, self._skew, self._faults, self._prefect_goes, self._lose_a_result),
            *(self._change_the_shop, self._resume),
        )

    def _work(self) -> None:
        """A worker takes a run."""
        waiting = self.prefect.scheduled()
        if waiting:
            self._execute(waiting[self.tape.below(len(waiting))])
        else:
            self._sweep()

    def _execute(self, run: Run) -> Actor:
        self.prefect.set_state(str(run.id), Running())
        process = Process(self._host(), run_id=str(run.id))
        return self._start(f"run {run.id.int}", self._flow(run.parameters), process)

    def _flow(self, parameters: dict[str, Any]) -> Any:
        if "batch_id" in parameters:
            return self.wiring.turn_by_turn(partial(batch_flow.fn, parameters["batch_id"]))
        return refund_flow.fn(RefundRequest.model_validate(parameters["request"]))

    def _sweep(self) -> None:
        self._start("sweep", self.wiring.turn_by_turn(sweep_flow.fn))

    def _decide(
        self, *, people: tuple[str, ...] = ("mia", "noa", "sam"), calm: bool = False
    ) -> None:
        """Somebody decides what is open."""
        wanted = self._refund_ids(schema.approvals, schema.approvals.c.status == "open")
        if not wanted:
            return
        refund_id = wanted[self.tape.below(len(wanted))]
        person = people[self.tape.below(len(people))]
        choice = "approve" if calm else ("approve", "approve", "reject")[self.tape.below(3)]
        self._start(f"decide {refund_id}", self._decision(refund_id, choice, person))

    async def _decision(self, refund_id: str, choice: Any, person: str) -> None:
        status = await AsyncRefunds().decide(refund_id, choice, person=person, channel="cli")
        approval = status["approval"]
        if approval["status"] in ("APPROVED", "REJECTED"):
            self.decided[approval["approval_id"]] = approval["status"]

    def _answer_in_the_ui(self) -> None:
        """Prefect keeps an answer and lets the run go on."""
        run = self._a_paused_run()
        if run is None:
            return
        key = run.state.state_details.pause_key
        answer = {
            "decision": ("approve", "reject")[self.tape.below(2)],
            "approver": ("mia", "noa")[self.tape.below(2)],
            "reason": "",
        }
        run.inputs.append(
            SimpleNamespace(
                key=f"suspended-{key}-response", created=self.wiring.now, decoded_value=answer
            )
        )
        self.prefect.set_state(str(run.id), Scheduled(name="Resuming"))

    def _force_resume(self) -> None:
        """Somebody pushes the run on without an answer."""
        run = self._a_paused_run()
        if run is not None:
            self.prefect.set_state(str(run.id), Scheduled())

    def _kill(self) -> None:
        """A process dies; whoever watches it may report it, or die as well."""
        if not self.actors or self.kills >= _MOST_KILLS:
            return
        actor = self.actors[self.tape.below(len(self.actors))]
        self._bury(actor)
        if actor.process.run_id and self.tape.happens(50):
            self._end_run(actor.process.run_id, Crashed())

    def _kill_host(self) -> None:
        """Everything on one host dies."""
        if self.kills >= _MOST_KILLS:
            return
        host = self._host()
        for actor in [each for each in self.actors if each.process.host == host]:
            self._bury(actor)

    def _bury(self, actor: Actor) -> None:
        self.kills += 1
        actor.kill()
        self.actors.remove(actor)
        self.dead.append(actor)

    def _start_twice(self) -> None:
        """Two processes for the same run."""
        running = [r for r in self.prefect.runs.values() if r.state.type is StateType.RUNNING]
        if running:
            self._execute(running[self.tape.below(len(running))])

    def _webhook(self) -> None:
        """Any event, in any order, as often as it comes."""
        if self.outside.events:
            event = self.outside.events[self.tape.below(len(self.outside.events))]
            self._start("webhook", self._delivery(event))

    async def _delivery(self, event: dict[str, Any]) -> None:
        for refund_id in await gateway_events.take(stripe_events.told(event)):
            await runs.wake(refund_id)

    def _settle(self) -> None:
        pending = self.outside.pending()
        if pending:
            status = ("succeeded", "succeeded", "failed")[self.tape.below(3)]
            self.outside.settle(pending[self.tape.below(len(pending))], status)

    def _pass_time(self) -> None:
        seconds = _PAUSES_SECONDS[self.tape.below(len(_PAUSES_SECONDS))]
        self.wiring.now += timedelta(seconds=seconds)

    def _skew(self) -> None:
        """A host's clock is an hour off, or right again."""
        hours = (0, 1, -1)[self.tape.below(3)]
        self.wiring.skew[self._host()] = timedelta(hours=hours)

    def _faults(self) -> None:
        self.outside.fault_percent = (0, 15, 50)[self.tape.below(3)]
        system = ("gateway", "crm", "notices", "logistics", "coupons")[self.tape.below(5)]
        self.outside.down ^= {system} if self.tape.happens(40) else set()

    def _prefect_goes(self) -> None:
        self.prefect.is_down = not self.prefect.is_down

    def _lose_a_result(self) -> None:
        kept = sorted(self.prefect.results)
        if kept:
            del self.prefect.results[kept[self.tape.below(len(kept))]]

    def _change_the_shop(self) -> None:
        """An order is not what it was when somebody approved."""
        number = self.tape.below(len(_ORDERS))
        with self.wiring.shop.begin() as connection:
            connection.exec_driver_sql(
                "INSERT INTO after_sales VALUES (?, ?, 'complaint', 'closed', 0, 'late parcel')",
                (f"as_{self.steps}", list(_ORDERS)[number]),
            )

    def _resume(self) -> None:
        """A person puts one back on its feet."""
        rows = self._refund_ids(schema.refunds, schema.refunds.c.outcome.is_(None))
        if rows:
            refund_id = rows[self.tape.below(len(rows))]
            self._start("resume", AsyncRefunds().resume(refund_id, person="lea"))

    # --- Ends ---

    def _ended(self, actor: Actor) -> None:
        error, run_id = actor.error, actor.process.run_id
        actor.process.is_alive = False
        if isinstance(error, sim_checks.Violated):
            raise error
        if isinstance(error, Suspended):
            return
        expected = (httpx.HTTPError, StepFailed) if run_id else (StepFailed, Conflict, BadInput)
        if error is not None and not isinstance(error, expected):
            raise sim_checks.Violated(f"{actor.name}, {actor.point}: {error!r}") from error
        if run_id:
            self._end_run(run_id, Failed() if error else Completed())

    def _end_run(self, run_id: str, state: Any) -> None:
        if self.prefect.runs[run_id].state.type is StateType.RUNNING:
            self.prefect.set_state(run_id, state)

    def _calm_down(self) -> None:
        """Nothing goes wrong any more, and everybody does their part."""
        self.outside.fault_percent = 0
        self.outside.down.clear()
        self.prefect.is_down = False
        self.wiring.skew.clear()
        for number in range(_CALM_ROUNDS):
            self._finish_all()
            for run in self.prefect.scheduled():
                self._execute(run)
            self._finish_all()
            for person in ("mia", "noa"):
                self._decide(people=(person,), calm=True)
                self._finish_all()
            for refund in self.outside.pending():
                self.outside.settle(refund, "succeeded")
            self._sweep()
            self._finish_all()
            unfinished = self._refund_ids(schema.refunds, schema.refunds.c.outcome.is_(None))
            asleep = bursts.left_asleep(self.wiring.ledger())
            if not unfinished and not asleep and not self.prefect.scheduled():
                return
            self.wiring.now += timedelta(seconds=31)
            if number % 3 == 2:
                self._until_something_is_due()
            if number == _CALM_ROUNDS // 2:
                self._help()

    def _until_something_is_due(self) -> None:
        wait = schema.waits.c
        query = sa.select(sa.func.min(wait.due_at)).where(wait.ended_at.is_(None))
        with self.wiring.engine.connect() as connection:
            due_at = connection.execute(query).scalar()
        if due_at is not None:
            self.wiring.now = max(self.wiring.now, due_at)

    def _help(self) -> None:
        """The next day, keys forgotten, people help, and workers say which runs have died."""
        self.wiring.now += timedelta(hours=30)
        for run_id in list(self.prefect.runs):
            self._end_run(run_id, Crashed())
        for refund_id in self._refund_ids(schema.refunds, schema.refunds.c.outcome.is_(None)):
            if requests.read(self.wiring.ledger(), refund_id)["attention"] is not None:
                self._start("resume", AsyncRefunds().resume(refund_id, person="lea"))
        self._finish_all()

    def _finish_all(self) -> None:
        while self.actors:
            self._step(self.actors[0])

    # --- Help ---

    def _a_paused_run(self) -> Run | None:
        paused = [run for run in self.prefect.runs.values() if run.is_waiting]
        return paused[self.tape.below(len(paused))] if paused else None

    def _refund_ids(self, table: Any, condition: Any) -> list[str]:
        query = table.select().where(condition).order_by(table.c.refund_id)
        with self.wiring.engine.connect() as connection:
            return [row["refund_id"] for row in connection.execute(query).mappings()]

    def _submit(self, number: int, wanted: tuple[str, str, str, int, int]) -> None:
        kind, order_id, item_id, amount_minor, goodwill_minor = wanted
        request = RefundRequest.model_validate(
            {
                "refund_id": f"rf_{number}",
                "kind": kind,
                "order_id": order_id,
                "customer_id": f"ada_{order_id}",
                "item_ids": [item_id],
                "amount_minor": amount_minor,
                "currency": "USD",
                "refund_to": f"card_{order_id}",
                "reason": "no longer needed",
                "requested_by": "sam",
                "goodwill_minor": goodwill_minor,
            }
        )
        requests.submit(self.wiring.ledger(), [request])

    def _open_shop(self) -> None:
        with self.wiring.shop.begin() as connection:
            for order_id, (status, items) in _ORDERS.items():
                customer, card, charge = (f"{p}_{order_id}" for p in ("ada", "card", "ch"))
                paid = sum(items.values())
                self.outside.captured[charge] = paid
                put = connection.exec_driver_sql
                put("INSERT INTO orders VALUES (?, ?, ?, 'USD')", (order_id, customer, status))
                put(
                    "INSERT INTO payments VALUES (?, 'payment', ?, ?, ?, 1)",
                    (order_id, paid, card, charge),
                )
                put("INSERT INTO payment_methods VALUES (?, 'credit_card', ?)", (card, customer))
                for line, (item_id, price) in enumerate(items.items()):
                    put(
                        "INSERT INTO order_items VALUES (?, ?, 'Lamp', ?, ?)",
                        (order_id, item_id, price, line),
                    )
