"""A host is cut off in the middle of paying: another one finishes, and the first one is refused."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import pytest

from refunds.ledger import history
from tests.browser.stack import free_ports
from tests.chaos import chaos_network
from tests.chaos.chaos_boundaries import TIMEOUT_AFTER
from tests.chaos.chaos_holds import Holds
from tests.chaos.chaos_network import Network, Worker
from tests.chaos.chaos_stack import ChaosStack, has_ended, let_the_lease_run_out, until
from tests.house import services

pytestmark = [pytest.mark.postgresql, pytest.mark.slow]

# What a worker says once it is at work.
_AT_WORK = "started!"


@dataclass
class Hosts:
    """Two hosts with a worker each, the second of which sleeps until it is needed."""

    links: Network
    stack: ChaosStack
    first: chaos_network.Host
    workers: tuple[Worker, Worker]
    holds: Holds
    fences: dict[str, int] = field(default_factory=dict)
    pids: dict[str, int | None] = field(default_factory=dict)

    def bring_to_pay(self, refund_id: str) -> None:
        """The gateway has paid, and the answer is on its way."""
        self.stack.faults([{"times": 1, "match": {"refund_id": refund_id}, **TIMEOUT_AFTER}])
        self.stack.take(refund_id)
        until(lambda: f"{refund_id}:issue_refund" in self.stack.acts(refund_id), "it is paid")

    def bring_to_write(self, refund_id: str) -> None:
        """The transaction that says so is open, and locks the refund's row."""
        self.holds.at(refund_id, "record:issue_refund:succeeded")
        self.stack.take(refund_id)
        until(partial(self.holds.has_come, refund_id), "the ledger is told that it is paid")

    def note(self, *refund_ids: str) -> None:
        """Remember who has these refunds."""
        for refund_id in refund_ids:
            self.pids[refund_id] = self.stack.pid_of_run(refund_id)
            self.fences[refund_id] = self.stack.row(refund_id)["fence"]

    def is_taken(self, refund_id: str) -> bool:
        """Whether somebody else has the refund now."""
        return bool(self.stack.row(refund_id)["fence"] > self.fences[refund_id])

    def is_paid(self, refund_id: str) -> bool:
        """Whether it has ended so."""
        return bool(self.stack.row(refund_id)["outcome"] == "PAID")


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, postgresql_server: str
) -> Iterator[tuple[Network, ChaosStack]]:
    chaos_network.need_namespaces()
    home = tmp_path_factory.mktemp("partitions")
    with (
        services.fresh_database(postgresql_server) as ledger_url,
        Network(free_ports(), ledger_url).answering() as links,
        links.stack(home).running() as stack,
    ):
        yield links, stack


@pytest.fixture
def hosts(running: tuple[Network, ChaosStack]) -> Iterator[Hosts]:
    links, stack = running
    with (
        stack.entered(),
        stack.frozen("worker"),
        stack.database() as connection,
        links.host("first") as first,
        links.host("second") as second,
        first.worker(stack.home / "first.log") as one,
        second.worker(stack.home / "second.log") as other,
    ):
        holds = Holds(connection)
        holds.install()
        for worker in (one, other):
            until(partial(worker.said, _AT_WORK), "a worker is at work")
        yield Hosts(links, stack, first, (one, other), holds)
        holds.let_all_go()


def test_a_host_cut_off_in_the_middle_of_paying_is_refused_when_its_links_heal(
    hosts: Hosts,
) -> None:
    refund_id = "rf-cut"
    with hosts.workers[1].asleep():
        hosts.bring_to_pay(refund_id)
        hosts.note(refund_id)
    with hosts.first.without(("prefect", "ledger")):
        let_the_lease_run_out(hosts.stack, refund_id)
        until(partial(hosts.is_paid, refund_id), "the other host has finished it")
    _is_refused(hosts, refund_id)
    until(partial(hosts.workers[0].said, "this runner must stop"), "it was told why")


@pytest.mark.long
@pytest.mark.parametrize(
    "cut", [("prefect", "ledger"), ("ledger",), ("prefect",)], ids=" and ".join
)
def test_another_host_takes_over_within_the_lease_even_what_an_open_transaction_locks(
    hosts: Hosts, cut: tuple[str, ...]
) -> None:
    name = "-".join(("rf", *cut))
    paying, writing = f"{name}-paying", f"{name}-writing"
    with hosts.workers[1].asleep():
        hosts.bring_to_write(writing)
        hosts.bring_to_pay(paying)
        hosts.note(paying, writing)
    with hosts.first.without(cut):
        cut_at = time.monotonic()
        hosts.holds.let_all_go()
        for refund_id in (paying, writing):
            until(partial(_is_over_or_taken, hosts, refund_id), f"{refund_id} is taken over")
            took_seconds = time.monotonic() - cut_at
            print(f"without {' and '.join(cut)}: {refund_id} after {took_seconds:.0f} s")
        for refund_id in (paying, writing):
            until(partial(hosts.is_paid, refund_id), f"{refund_id} is finished")
    _is_refused(hosts, paying, writing)


def _is_over_or_taken(hosts: Hosts, refund_id: str) -> bool:
    return hosts.is_taken(refund_id) or hosts.is_paid(refund_id)


def _is_refused(hosts: Hosts, *refund_ids: str) -> None:
    """Whoever had these refunds first has ended, and has changed nothing any more."""
    stack = hosts.stack
    events = {refund_id: history.read(stack.ledger, refund_id) for refund_id in refund_ids}
    for refund_id in refund_ids:
        until(partial(has_ended, hosts.pids[refund_id]), f"the first run of {refund_id} ends")
    for refund_id in refund_ids:
        assert history.read(stack.ledger, refund_id) == events[refund_id]
        acts = stack.acts(refund_id)
        assert len(acts) == len(set(acts))
        assert acts.count(f"{refund_id}:issue_refund") == 1
    assert stack.problems() == []
