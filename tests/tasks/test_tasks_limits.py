"""A system is sent no more than its limit says, whoever counts, and counting stops nobody."""

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from prefect.client.orchestration import PrefectClient

from refunds.errors import BadInput, SystemBusy, SystemUnavailable
from refunds.settings import settings
from tasks import limits, runs


class FakePrefect(httpx.AsyncBaseTransport):
    """Prefect's concurrency limits: slots that are leased, and given back."""

    def __init__(self, **slots: int) -> None:
        self.slots = {name.replace("_", "-"): count for name, count in slots.items()}
        self.leases: dict[str, str] = {}
        self.asked = 0
        self.is_away = False
        self.forgets = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self.is_away:
            raise httpx.ConnectError("refused", request=request)
        if request.method == "GET":
            # The client asks for a token against forged requests; this server has none.
            return httpx.Response(
                422, json={"detail": "CSRF protection is disabled."}, request=request
            )
        body = json.loads(await request.aread())
        if request.url.path.endswith("/increment-with-lease"):
            return self._increment(body)
        assert request.url.path.endswith("/decrement-with-lease")
        held = self.leases.pop(body["lease_id"], None)
        if held is None:
            return httpx.Response(404, json={"detail": "no such lease"}, request=request)
        self.slots[held] += 1
        return httpx.Response(200, json=[], request=request)

    def _increment(self, body: dict[str, Any]) -> httpx.Response:
        self.asked += 1
        (name,) = body["names"]
        lease, at = str(uuid4()), httpx.Request("POST", "http://prefect.test")
        if name not in self.slots:
            return httpx.Response(200, json={"lease_id": lease, "limits": []}, request=at)
        if not self.slots[name]:
            return httpx.Response(423, headers={"Retry-After": "2"}, request=at)
        self.slots[name] -= 1
        self.leases[lease] = name
        if self.forgets:
            self.leases.clear()
        return httpx.Response(200, json={"lease_id": lease, "limits": []}, request=at)


Put = Callable[..., FakePrefect]
Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture
def put(monkeypatch: pytest.MonkeyPatch) -> Put:
    """Set a limit on the CRM, with Prefect's own count of it."""
    monkeypatch.setattr(limits, "_TURN_SECONDS", 0.3)
    monkeypatch.setattr(limits, "_AGAIN_SECONDS", 0.01)

    def made(limit: dict[str, Any], **slots: int) -> FakePrefect:
        server = FakePrefect(**slots)
        monkeypatch.setattr(
            runs,
            "prefect",
            lambda: PrefectClient("http://prefect.test/api", httpx_settings={"transport": server}),
        )
        monkeypatch.setenv("REFUNDS_LIMITS", json.dumps({"crm": limit}))
        settings.cache_clear()
        return server

    return made


@pytest.fixture
def run() -> Iterator[Run]:
    with asyncio.Runner() as runner:
        yield runner.run
        runner.run(limits.close())


async def crowd(count: int, system: str = "crm") -> int:
    """So many calls at once, each as long as it takes the others to come; the most at one time."""
    now, most = 0, 0

    async def one() -> None:
        nonlocal now, most
        async with limits.turn(system):
            now += 1
            most = max(most, now)
            await asyncio.sleep(0.005)
            now -= 1

    await asyncio.gather(*(one() for _ in range(count)))
    return most


def test_no_more_calls_than_allowed_are_under_way_and_all_get_their_turn(
    put: Put, run: Run
) -> None:
    server = put({"at_once": 3}, refunds_crm=3)
    assert run(crowd(12)) == 3
    assert (server.slots, server.asked) == ({"refunds-crm": 3}, 12)


def test_a_system_without_a_limit_costs_nothing(put: Put, run: Run) -> None:
    server = put({"at_once": 1}, refunds_crm=1)
    assert run(crowd(12, "gateway")) == 12
    assert server.asked == 0


def test_slots_that_others_hold_are_waited_for_and_in_the_end_the_system_is_busy(
    put: Put, run: Run
) -> None:
    server = put({"at_once": 3}, refunds_crm=0)
    with pytest.raises(SystemBusy, match="all processes together") as busy:
        run(crowd(1))
    # Nothing was sent, and it is no outage of the system's: the step is simply tried again.
    assert busy.value.retry_after_seconds == 0
    server.slots["refunds-crm"] = 1
    assert run(crowd(2)) == 1


def test_while_prefect_is_away_this_process_keeps_to_the_limit_by_itself(
    put: Put, run: Run
) -> None:
    server = put({"at_once": 2}, refunds_crm=0)
    server.is_away = True
    assert run(crowd(6)) == 2
    # And does not ask again at every call.
    server.is_away = False
    assert run(crowd(6)) == 2
    assert server.asked == 0


def test_a_lease_that_prefect_lost_stops_nobody(put: Put, run: Run) -> None:
    server = put({"at_once": 2}, refunds_crm=8)
    server.forgets = True
    assert run(crowd(4)) == 2


def test_a_limit_that_was_never_set_up_lets_everybody_in(put: Put, run: Run) -> None:
    server = put({"at_once": 4})
    assert run(crowd(8)) == 4
    assert server.asked == 8


def test_a_rate_is_counted_by_prefect_and_never_given_back(put: Put, run: Run) -> None:
    server = put({"per_second": 100}, refunds_crm_a_second=3)
    run(crowd(3))
    assert server.slots == {"refunds-crm-a-second": 0}
    with pytest.raises(SystemBusy, match="all processes together"):
        run(crowd(1))


def test_a_crowd_beyond_the_rate_is_told_to_come_again(put: Put, run: Run) -> None:
    put({"per_second": 10}, refunds_crm_a_second=50)
    with pytest.raises(SystemUnavailable, match="our own rate"):
        run(crowd(20))


@pytest.mark.parametrize(
    "wrong",
    ['{"bank": {"at_once": 1}}', '{"crm": {"at_once": 0}}', '{"crm": {"per_hour": 1}}', "20"],
)
def test_a_limit_that_cannot_be_kept_is_refused_at_the_door(
    monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    monkeypatch.setenv("REFUNDS_LIMITS", wrong)
    settings.cache_clear()
    with pytest.raises(BadInput, match="REFUNDS_LIMITS"):
        settings()
