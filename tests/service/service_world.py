"""A ledger with questions that wait for people, a shop, and browsers and programs at the door."""

import itertools
import re
from dataclasses import dataclass, field
from datetime import timedelta
from html import unescape
from typing import Any

from httpx2 import Response
from starlette.testclient import TestClient

from refunds import asking, policy
from refunds.ledger import Ledger, approvals, leases, requests
from refunds.ledger.access import accounts, api_keys
from refunds.ledger.approvals import Standing
from refunds.models import RefundRequest, RiskFeatures
from refunds.policy_file import Policy
from refunds.scopes import Scope
from sandbox.testing import World as Sandbox
from sandbox.testing import customer_record, order_record
from tasks import books, orders

PASSWORD = "correct horse battery"
HERE = "http://127.0.0.1"

_numbers = itertools.count(1)
_TOKEN = re.compile(r'name="form_token" value="([^"]+)"')


def review(refund_id: str) -> str:
    """The address of a refund's page."""
    return f"/refunds/{refund_id}/review"


@dataclass
class Browser:
    """Somebody's browser; what it is shown last, it can send back."""

    client: TestClient
    page: str = ""

    def get(self, path: str) -> Response:
        answer = self.client.get(path, headers={"Accept": "text/html"})
        self.page = answer.text
        return answer

    def post(self, path: str, token: str | None = None, **fields: Any) -> Response:
        """Send a form with the token of the page before, or with another one."""
        known = _TOKEN.search(self.page)
        value = token if token is not None else known.group(1) if known else ""
        answer = self.client.post(
            path,
            data={"form_token": value, **fields},
            headers={"Accept": "text/html", "Sec-Fetch-Site": "same-origin"},
            follow_redirects=False,
        )
        self.page = answer.text or self.page
        return answer

    def sign_in(self, person: str, password: str = PASSWORD, **more: str) -> Response:
        self.get("/sign-in")
        return self.post("/sign-in", person=person, password=password, **more)

    def decide(self, refund_id: str, decision: str, **fields: Any) -> Response:
        """Open a refund's page and decide on what it shows."""
        self.get(review(refund_id))
        shown = re.search(r'name="digest" value="([0-9a-f]{64})"', self.page)
        digest = shown.group(1) if shown else "0" * 64
        return self.post(review(refund_id), **{"decision": decision, "digest": digest, **fields})

    @property
    def listed(self) -> list[str]:
        """The refunds of the inbox in its order."""
        return re.findall(r'scope="row" class="id"><a href="/refunds/([^"]+)/review"', self.page)

    @property
    def text(self) -> str:
        """The page's words, without its markup."""
        words = re.sub(r"<(script|style)[^>]*>.*?</\1>|<[^>]+>", " ", self.page, flags=re.DOTALL)
        return " ".join(unescape(words).split())


@dataclass
class World:
    """The service over one ledger and one shop."""

    client: TestClient
    sandbox: Sandbox
    ledger: Ledger = field(default_factory=books.ledger)

    def browser(self, person: str | None = None) -> Browser:
        """A browser of its own, signed in as that person."""
        found = Browser(TestClient(self.client.app, base_url=HERE))
        if person is not None:
            if not accounts.has_password(self.ledger, person):
                accounts.set_password(self.ledger, person, PASSWORD)
            assert found.sign_in(person).status_code == 303
        return found

    def key(self, *scopes: Scope, person: str | None = None) -> dict[str, str]:
        """The header of a machine with a key."""
        text = api_keys.create(self.ledger, "tool", scopes, person_id=person)
        return {"Authorization": f"Bearer {text}"}

    def request(self, **fields: Any) -> dict[str, Any]:
        """A request about a new order of that amount."""
        number = next(_numbers)
        wanted = {
            "refund_id": f"rf_s{number}",
            "kind": "return",
            "order_id": f"#S{number}",
            "customer_id": "ada_1",
            "item_ids": ["i1"],
            "amount_minor": 150_000,
            "currency": "USD",
            "refund_to": "card_ada_1",
            "reason": "too small",
            "message": "It does not fit.",
            "requested_by": "support_sue",
            **fields,
        }
        order = order_record(wanted["order_id"], paid_minor=wanted["amount_minor"])
        order["currency"] = wanted["currency"]
        self.sandbox.client.post("/shop/customers", json=[customer_record()]).raise_for_status()
        self.sandbox.client.post("/shop/orders", json=[order]).raise_for_status()
        return wanted

    def waiting(self, *, hours_ago: float = 0, **fields: Any) -> str:
        """A refund about which people are asked since some hours; returns its id."""
        request = RefundRequest.model_validate(self.request(**fields))
        requests.submit(self.ledger, [request])
        lease = leases.take(self.ledger, request.refund_id, "run-1")
        assert lease.fence is not None
        case = orders.read_whole_case(request, 1)
        rules: Policy = books.policy()
        assessment = policy.assess(case, _NO_RISK, rules)
        asked_at = self.ledger.clock() - timedelta(hours=hours_ago)
        question = asking.question(case, assessment, rules, asked_at)
        approvals.open_approval(self.ledger, question, request.requester, lease.fence)
        with self.ledger.page(request.refund_id) as page:
            reasons = [reason.plain() for reason in assessment.reasons]
            page.change(reasons=reasons, verdict=str(assessment.verdict))
            page.change(lease_holder=None, lease_expires_at=None)
        return request.refund_id

    def standing(self, refund_id: str) -> Standing:
        found = approvals.standing(self.ledger, refund_id)
        assert found is not None
        return found

    def said(self, refund_id: str) -> list[tuple[str, str]]:
        """Who decided what."""
        return [(d["person"], d["decision"]) for d in self.standing(refund_id).decisions]

    def ship_again(self, refund_id: str) -> None:
        """The shop's order is not what it was."""
        row = requests.read(self.ledger, refund_id)
        order = order_record(row["order_id"], paid_minor=row["amount_minor"], status="processed")
        self.sandbox.client.post("/shop/orders", json=[order]).raise_for_status()


_NO_RISK = RiskFeatures(
    orders_total=1, orders_cancelled=0, spent_minor=0, refunded_minor=0, other_refunds=0
)
