"""A host is cut off in the middle of paying: another one finishes, and the first one is refused."""

from __future__ import annotations

import time
from collections.abc import Iterator

import psutil
import pytest

from refunds.ledger import history
from tests.browser.stack import free_ports
from tests.chaos import chaos_network
from tests.chaos.chaos_boundaries import TIMEOUT_AFTER
from tests.chaos.chaos_holds import Holds
from tests.chaos.chaos_network import Network
from tests.chaos.chaos_stack import ChaosStack, until
from tests.house import services

pytestmark = [pytest.mark.postgresql, pytest.mark.slow]

# What a worker says once it is at work.
_AT_WORK = "started!"


@pytest.fixture(scope="module")
def network(
    tmp_path_factory: pytest.TempPathFactory, postgresql_server: str
) -> Iterator[tuple[Network, ChaosStack]]:
    chaos_network.need_namespaces()
    home = tmp_path_factory.mktemp("partitions")
    with (
        services.fresh_database(postgresql_server) as ledger_url,
        Network(free_ports(), ledger_url).answering() as network,
        network.stack(home).running() as stack,
    ):
        yield network, stack


@pytest.mark.parametrize(
    "cut",
    [
        ("prefect", "ledger"),
        pytest.param(("ledger",), marks=pytest.mark.long),
        pytest.param(("prefect",), marks=pytest.mark.long),
    ],
    ids=" and ".join,
)
def test_a_host_cut_off_in_the_middle_of_paying_is_replaced_and_then_refused(
    network: tuple[Network, ChaosStack], cut: tuple[str, ...]
) -> None:
    links, running = network
    name = "rf-cut-" + "-".join(cut)
    paying, writing = f"{name}-paying", f"{name}-writing"
    with (
        running.entered() as stack,
        stack.frozen("worker"),
        stack.database() as connection,
        links.host(f"first-{len(cut)}") as first,
        links.host(f"second-{len(cut)}") as second,
        first.worker(stack.home / f"{name}-first.log") as one,
        second.worker(stack.home / f"{name}-second.log") as other,
    ):
        holds = Holds(connection)
        holds.install()
        for worker in (one, other):
            until(lambda worker=worker: worker.said(_AT_WORK), "a worker is at work")
        with other.asleep():
            # The gateway has paid one of them, and the answer is on its way.
            stack.faults([{"times": 1, "match": {"refund_id": paying}, **TIMEOUT_AFTER}])
            # Of the other one its transaction is open, and locks its row.
            holds.at(writing, "record:issue_refund:succeeded")
            stack.take(writing)
            until(lambda: holds.has_come(writing), "the ledger is being told that it is paid")
            stack.take(paying)
            until(lambda: f"{paying}:issue_refund" in stack.acts(paying), "the gateway has paid")
            pids = {each: stack.pid_of_run(each) for each in (paying, writing)}
            fences = {each: stack.row(each)["fence"] for each in (paying, writing)}
        with first.without(cut):
            cut_at, seconds = time.monotonic(), {}
            holds.let_all_go()
            for each in (paying, writing):
                until(lambda each=each: stack.row(each)["fence"] > fences[each], f"{each} is taken")
                seconds[each] = time.monotonic() - cut_at
                print(f"{each} was another host's {seconds[each]:.0f} s after {' and '.join(cut)}")
            for each in (paying, writing):
                until(lambda each=each: stack.row(each)["outcome"] == "PAID", f"{each} is paid")
        events = {each: history.read(stack.ledger, each) for each in (paying, writing)}
        for each, pid in pids.items():
            until(lambda pid=pid: not psutil.pid_exists(pid), f"the first runner of {each} ended")
        print("refused", one.said("this runner must stop"), time.monotonic() - cut_at)
        for each in (paying, writing):
            assert history.read(stack.ledger, each) == events[each]
            acts = stack.acts(each)
            assert len(acts) == len(set(acts))
            assert acts.count(f"{each}:issue_refund") == 1
        assert stack.problems() == []
