"""How fast is the inbox when many refunds wait? `python -m benchmarks inbox`.

It seeds a ledger of its own, signs somebody in and measures whole answers of the service in this
process: query, template, headers.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from benchmarks.place import place

# Enough for a 95th percentile; a few seconds in all.
_ANSWERS_COUNT = 60

_CURRENCY = "USD"


def measure(kind: str, counts: list[int]) -> dict[str, Any]:
    """The pages with each number of refunds waiting, on a ledger of one kind."""
    found = []
    for count in counts:
        with place(kind, {}) as where:
            pages = where.run("benchmarks.inbox", str(count))
        found.append({"waiting": count, "pages": pages})
    return {"kind": kind, "counts": found}


def main(refunds_count: int) -> None:
    """Seed, measure, print the pages' times as JSON."""
    from starlette.testclient import TestClient

    from refunds.ledger import migrate
    from refunds.ledger.access import accounts, sessions
    from refunds.origin import Origin
    from refunds.service import changes, limits
    from refunds.service.app import build
    from refunds.settings import settings
    from tasks import books

    migrate(settings().ledger_database_url)
    ledger = books.ledger()
    seed(refunds_count)
    accounts.set_password(ledger, "ann", "a long enough password")
    token = sessions.open_session(ledger, "ann", "password", Origin.of("service"))
    for limit in limits.ALL:
        limit.spend = lambda _: None  # type: ignore[assignment,method-assign]  # speed is the question here

    client = TestClient(build(settings()), base_url="http://127.0.0.1")
    client.cookies.set("refunds", token)
    first = client.get("/inbox")
    assert f"{refunds_count} waiting in all" in first.text, first.text[:500]
    pages: dict[str, Callable[[], object]] = {
        name: lambda path=path: client.get(path).raise_for_status()  # type: ignore[misc]
        for name, path in (
            ("first page", "/inbox"),
            ("everybody's", "/inbox?whose=all"),
            ("filtered", f"/inbox?currency={_CURRENCY}&least=4000"),
            ("one refund", "/refunds/rf_wait_00000/review"),
        )
    }
    pages["look for news"] = lambda: changes.mark(ledger)
    print(json.dumps({name: _timed(page) for name, page in pages.items()}))


def seed(refunds_count: int) -> None:
    """Put refunds into the ledger about which people are asked, with deadlines over two days."""
    from refunds import asking, policy
    from refunds.ledger import approvals, leases, requests
    from refunds.models import Case, Charge, Item, Order, RefundRequest, RiskFeatures
    from tasks import books

    ledger, rules = books.ledger(), books.policy()
    risk = RiskFeatures(
        orders_total=3, orders_cancelled=1, spent_minor=900_000, refunded_minor=0, other_refunds=1
    )
    wanted = [
        RefundRequest.model_validate(
            {
                "refund_id": f"rf_wait_{number:05}",
                "kind": "return",
                "order_id": f"#W{number}",
                "customer_id": f"customer_{number % 400}",
                "item_ids": ["i1"],
                "amount_minor": 110_000 + 1_117 * (number % 400),
                "currency": _CURRENCY,
                "refund_to": f"credit_card_{number}",
                "reason": "too small",
                "message": "It does not fit, and the colour is not the one in the picture.",
                "requested_by": f"support_{number % 7}",
            }
        )
        for number in range(refunds_count)
    ]
    requests.submit(ledger, wanted)
    for number, request in enumerate(wanted):
        lease = leases.take(ledger, request.refund_id, "seed")
        assert lease.fence is not None
        item = Item(item_id="i1", name="Walking shoes", price_minor=request.amount_minor)
        charge = Charge(
            charge_id=f"ch_{number}",
            payment_method_id=request.refund_to,
            currency=_CURRENCY,
            captured_minor=request.amount_minor,
            left_minor=request.amount_minor,
        )
        order = Order(
            order_id=request.order_id,
            customer_id=request.customer_id,
            status="delivered",
            currency=_CURRENCY,
            items=(item,),
            charges=(charge,),
            payment_methods={request.refund_to: "credit_card"},
        )
        case = Case(request=request, round=1, order=order)
        found = policy.assess(case, risk, rules)
        asked_at = ledger.clock() - timedelta(minutes=2 * (number % 1_000))
        question = asking.question(case, found, rules, asked_at)
        approvals.open_approval(ledger, question, request.requester, lease.fence)
        with ledger.page(request.refund_id) as page:
            page.append(
                "refund.assessed",
                {
                    "round": 1,
                    "assessment": found.plain(),
                    "order": order.plain(),
                    "after_sales": [],
                    "rivals": [],
                    "risk": risk.plain(),
                },
            )
            reasons = [reason.plain() for reason in found.reasons]
            page.change(verdict=str(found.verdict), reasons=reasons, lease_holder=None)


def _timed(act: Callable[[], object]) -> dict[str, float]:
    """The middle and the 95th percentile of many times, in milliseconds."""
    found = []
    for _ in range(_ANSWERS_COUNT):
        began = time.perf_counter()
        act()
        found.append((time.perf_counter() - began) * 1_000)
    return {
        "median_ms": statistics.median(found),
        "p95_ms": statistics.quantiles(found, n=20)[-1],
    }


if __name__ == "__main__":
    main(int(sys.argv[1]))
