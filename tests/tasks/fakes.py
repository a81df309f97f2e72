"""Other people's systems in memory: each keeps what it was told, and goes wrong when asked to."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, unquote

import httpx

Answer = tuple[int, Any]

# What nothing was done by: the first two are not even a send.
_RAISED_BEFORE = {
    "away": httpx.ConnectError,
    "dropped": httpx.ReadError,
    # Done after all, when nobody waits for it any more.
    "late": httpx.ReadTimeout,
}
_SAID_BEFORE = {
    "down": lambda: httpx.Response(503, text="try later"),
    "shut": lambda: httpx.Response(401, json={"error": "who are you?"}),
    "busy": lambda: httpx.Response(429, headers={"Retry-After": "0"}, text="slow down"),
    "resting": lambda: httpx.Response(429, headers={"Retry-After": "600"}, text="slow down"),
    "moved": lambda: httpx.Response(302, headers={"Location": "https://elsewhere.test/"}),
}
# What was done, and not told.
_RAISED_AFTER = {
    "silent": httpx.ReadTimeout,
    "reset": httpx.ReadError,
    "cut": httpx.RemoteProtocolError,
}
_SAID_AFTER = {
    "broken": lambda: httpx.Response(500, json={"error": {"message": "oops"}}),
    "garbled": lambda: httpx.Response(200, text='{"id":'),
    "page": lambda: httpx.Response(502, text="<html>Bad gateway</html>"),
    "odd": lambda: httpx.Response(200, json=["done"]),
}
FAULTS = (*_RAISED_BEFORE, *_SAID_BEFORE, *_RAISED_AFTER, *_SAID_AFTER)
# After these the system has acted, and only our own call does not know it.
ACTED = ("late", *_RAISED_AFTER, *_SAID_AFTER)


class FakeServer(httpx.AsyncBaseTransport):
    """A server whose `serve` acts; `faults` are what becomes of its next sends, as in FAULTS."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        # Sends that will only act when something else arrives.
        self._late: list[Callable[[], object]] = []
        # Every send that arrived, by its key.
        self.sends: list[str] = []
        self.headers: httpx.Headers = httpx.Headers()

    # How the product says no.
    refusal: Answer = (422, {"error": {"code": "invalid", "message": "No."}})
    key_header = "Idempotency-Key"

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = await request.aread()
        # On a wire others get their turn.
        await asyncio.sleep(0)
        path = request.url.raw_path.decode().partition("?")[0]
        query = {name: values[0] for name, values in parse_qs(request.url.query.decode()).items()}

        def act() -> Answer:
            self.headers = request.headers
            return self.serve(request.method, unquote(path), query, body)

        is_send = self.is_send(request.method, path)
        fault = self.faults.pop(0) if is_send and self.faults else ""
        if is_send and fault != "away":
            self.sends.append(request.headers.get(self.key_header, ""))
        while self._late:
            self._late.pop()()
        if fault == "late":
            self._late.append(act)
        if fault in _RAISED_BEFORE:
            raise _RAISED_BEFORE[fault]("no way", request=request)
        if fault == "refused":
            return httpx.Response(self.refusal[0], json=self.refusal[1])
        if fault in _SAID_BEFORE:
            return _SAID_BEFORE[fault]()
        status, answer = act()
        if fault in _RAISED_AFTER:
            raise _RAISED_AFTER[fault]("no answer", request=request)
        if fault in _SAID_AFTER:
            return _SAID_AFTER[fault]()
        return httpx.Response(status, json=answer)

    def is_send(self, method: str, path: str) -> bool:
        """Whether a request acts."""
        del path
        return method != "GET"

    def hears_of(self, charge_id: str) -> None:
        """A gateway captured this charge before."""

    def serve(self, method: str, path: str, query: dict[str, str], body: bytes) -> Answer:
        raise NotImplementedError

    @property
    def made(self) -> list[Any]:
        """What was made, each once."""
        raise NotImplementedError


class FakeZendesk(FakeServer):
    """Tickets; an Idempotency-Key is kept."""

    refusal = (422, {"error": "RecordInvalid", "description": "Record validation errors"})

    def __init__(self) -> None:
        super().__init__()
        self.tickets: list[dict[str, Any]] = []
        self._by_key: dict[str, tuple[bytes, dict[str, Any]]] = {}

    @property
    def made(self) -> list[Any]:
        return self.tickets

    def serve(self, method: str, path: str, query: dict[str, str], body: bytes) -> Answer:
        assert path == "/api/v2/tickets.json"
        if self.headers["authorization"] != "Basic YUBiLmMvdG9rZW46ems=":
            return 401, {"error": "Couldn't authenticate you"}
        if method == "GET":
            found = [t for t in self.tickets if t["external_id"] == query["external_id"]]
            return 200, {"tickets": found, "next_page": None, "count": len(found)}
        key = self.headers["idempotency-key"]
        if key in self._by_key:
            first, ticket = self._by_key[key]
            return (201, {"ticket": ticket}) if first == body else (400, _IDEMPOTENT)
        asked = json.loads(body)["ticket"]
        assert asked["comment"]["public"] is False
        ticket = {"id": 35_436 + len(self.tickets), **asked}
        self.tickets.append(ticket)
        self._by_key[key] = body, ticket
        return 201, {"ticket": ticket}


_IDEMPOTENT = {"error": "IdempotentRequestError", "description": "Invalid request body"}


class FakeHubSpot(FakeServer):
    """Tickets with a unique property; no idempotency keys at all."""

    refusal = (400, {"status": "error", "category": "VALIDATION_ERROR", "message": "bad property"})
    # What a ticket is answered whose unique property another one has.
    conflict: Answer = (409, {"status": "error", "category": "CONFLICT", "message": "has it"})

    def __init__(self) -> None:
        super().__init__()
        self.tickets: dict[str, dict[str, Any]] = {}

    @property
    def made(self) -> list[Any]:
        return list(self.tickets.values())

    def serve(self, method: str, path: str, query: dict[str, str], body: bytes) -> Answer:
        if self.headers["authorization"] != "Bearer pat-1":
            return 401, {"status": "error", "category": "INVALID_AUTHENTICATION"}
        if method == "GET":
            assert query == {"idProperty": "refund_key"}
            found = self.tickets.get(path.removeprefix("/crm/v3/objects/tickets/"))
            missing = {"status": "error", "category": "OBJECT_NOT_FOUND", "message": "none"}
            return (200, found) if found else (404, missing)
        assert path == "/crm/v3/objects/tickets"
        properties = json.loads(body)["properties"]
        if properties["refund_key"] in self.tickets:
            return self.conflict
        ticket = {"id": str(512 + len(self.tickets)), "properties": properties}
        self.tickets[properties["refund_key"]] = ticket
        return 201, ticket


class FakeReceiver(FakeServer):
    """A webhook's receiver that acts once per key, as it has to."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: dict[str, Any] = {}

    @property
    def made(self) -> list[Any]:
        return list(self.taken.values())

    def serve(self, method: str, path: str, query: dict[str, str], body: bytes) -> Answer:
        assert (method, path, query) == ("POST", "/hooks/refunds", {})
        at, _, given = self.headers["refunds-signature"].partition(",v1=")
        signed = at.removeprefix("t=").encode() + b"." + body
        if not hmac.compare_digest(given, hmac.new(b"shared", signed, hashlib.sha256).hexdigest()):
            return 401, None
        self.taken.setdefault(json.loads(body)["key"], json.loads(body))
        return 204, None


class FakeVouchers(FakeServer):
    """A company's own voucher service, with names of its own."""

    key_header = "X-Request-Id"

    def __init__(self) -> None:
        super().__init__()
        self.vouchers: dict[str, dict[str, Any]] = {}

    @property
    def made(self) -> list[Any]:
        return list(self.vouchers.values())

    def serve(self, method: str, path: str, query: dict[str, str], body: bytes) -> Answer:
        assert self.headers["authorization"] == "Bearer vk"
        if method == "GET":
            found = [v for v in self.vouchers.values() if v["ref"] == query["ref"]]
            return 200, {"data": {"items": found}}
        if method == "DELETE":
            found = [v for v in self.vouchers.values() if path == f"/api/vouchers/{v['code']}"]
            if not found or found[0].get("gone"):
                return 410, {"error": {"message": "gone"}}
            found[0]["gone"] = True
            return 200, {}
        assert (method, path) == ("PUT", "/api/vouchers")
        key = self.headers["x-request-id"]
        asked = json.loads(body)
        assert isinstance(asked["value"], str)
        self.vouchers.setdefault(key, {"code": f"V{len(self.vouchers)}", **asked})
        return 200, {"data": self.vouchers[key]}


class FakeWarehouse(FakeServer):
    """A company's own logistics: what was sent to it can be cancelled, and not looked up."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: dict[str, dict[str, Any]] = {}

    @property
    def made(self) -> list[Any]:
        return list(self.jobs.values())

    def serve(self, method: str, path: str, query: dict[str, str], body: bytes) -> Answer:
        key = self.headers["idempotency-key"]
        parts = path.strip("/").split("/")
        if parts[-1] == "stop":
            job = next((j for j in self.jobs.values() if str(j["no"]) == parts[1]), None)
            if job is None:
                return 404, {"error": {"message": "no such job"}}
            job["state"] = "stopped"
            return 200, {"no": job["no"]}
        self.jobs.setdefault(key, {"no": len(self.jobs) + 1, "kind": parts[0], **json.loads(body)})
        return 201, self.jobs[key]


class FakePayPal(FakeServer):
    """Captures and their refunds, by PayPal's rules for request ids, tokens and links."""

    key_header = "PayPal-Request-Id"
    base = "https://api.paypal.test"

    def __init__(self) -> None:
        super().__init__()
        self.captures: dict[str, int] = {}
        self.refunds: list[dict[str, Any]] = []
        self._by_key: dict[str, tuple[bytes, Answer]] = {}
        self.disputed: dict[str, str] = {}
        # Where a capture says what order it is of: its link, its own data, or its authorization.
        self.order_is_named_by = "link"
        # The body that PayPal's signature is over.
        self.signed = b""
        self.next_status = "COMPLETED"
        self.next_issue = ""
        self.tokens = 0

    @property
    def made(self) -> list[Any]:
        return self.refunds

    def is_send(self, method: str, path: str) -> bool:
        return method == "POST" and path.endswith("/refund")

    def hears_of(self, charge_id: str) -> None:
        self.captures[charge_id] = 10_000

    def serve(self, method: str, path: str, query: dict[str, str], body: bytes) -> Answer:
        if path == "/v1/oauth2/token":
            assert self.headers["authorization"] == "Basic Y2xpZW50OnNlY3JldA=="
            self.tokens += 1
            return 200, {"access_token": f"A{self.tokens}", "expires_in": 32_400}
        if self.headers["authorization"] != f"Bearer A{self.tokens}":
            return 401, {"name": "AUTHENTICATION_FAILURE"}
        parts = path.strip("/").split("/")
        served: dict[str, Callable[[], Answer]] = {
            "captures": lambda: self._capture(parts, body),
            "orders": lambda: self._order(parts[-1]),
            "refunds": lambda: self._one(parts[-1]),
            "authorizations": lambda: (200, self._of_order(parts[-1].removeprefix("A-"))),
            "disputes": lambda: self._disputes(query["disputed_transaction_id"]),
            "verify-webhook-signature": lambda: self._verify(body),
        }
        return served[parts[2]]()

    def _capture(self, parts: list[str], body: bytes) -> Answer:
        capture = parts[3]
        if capture not in self.captures:
            return 404, self._problem("RESOURCE_NOT_FOUND", "INVALID_RESOURCE_ID")
        if parts[-1] != "refund":
            is_direct = self.order_is_named_by == "link"
            up = (
                f"checkout/orders/O-{capture}"
                if is_direct
                else f"payments/authorizations/A-{capture}"
            )
            links = {"links": [{"rel": "up", "href": f"{self.base}/v2/{up}"}]}
            named = self._of_order(capture) if self.order_is_named_by == "data" else {}
            return 200, {"id": capture, **links, **named}
        key = self.headers["paypal-request-id"]
        if key not in self._by_key:
            self._by_key[key] = body, self._refund(capture, json.loads(body))
        first, answer = self._by_key[key]
        reused = self._problem("UNPROCESSABLE_ENTITY", "DUPLICATE_REQUEST_ID")
        return answer if first == body else (422, reused)

    @staticmethod
    def _of_order(capture: str) -> dict[str, Any]:
        return {"supplementary_data": {"related_ids": {"order_id": f"O-{capture}"}}}

    def _refund(self, capture: str, asked: dict[str, Any]) -> Answer:
        issue, self.next_issue = self.next_issue, ""
        mine = [r for r in self.refunds if r["links"][0]["href"].endswith(f"/{capture}")]
        gone = sum(self._value(r) for r in mine if r["status"] in ("COMPLETED", "PENDING"))
        if self._value(asked) + gone > Decimal(self.captures[capture]) / 100:
            issue = issue or "REFUND_AMOUNT_EXCEEDED"
        if issue:
            return 422, self._problem("UNPROCESSABLE_ENTITY", issue)
        number = len(self.refunds) + 1
        refund = {
            **asked,
            "id": f"R{number}",
            "status": self.next_status,
            "create_time": f"2026-11-25T{number:08d}",
            "links": [{"rel": "up", "href": f"{self.base}/v2/payments/captures/{capture}"}],
        }
        self.next_status = "COMPLETED"
        self.refunds.append(refund)
        return 201, refund

    def _order(self, order: str) -> Answer:
        capture = order.removeprefix("O-")
        mine = [r for r in self.refunds if r["links"][0]["href"].endswith(f"/{capture}")]
        return 200, {"id": order, "purchase_units": [{"payments": {"refunds": mine}}]}

    def _disputes(self, capture: str) -> Answer:
        if capture not in self.disputed:
            return 200, {"links": []}
        found = [{"dispute_id": "PP-D-1", "status": self.disputed[capture]}]
        return 200, {"items": found, "links": []}

    def _one(self, reference: str) -> Answer:
        found = [refund for refund in self.refunds if refund["id"] == reference]
        missing = self._problem("RESOURCE_NOT_FOUND", "INVALID_RESOURCE_ID")
        return (200, found[0]) if found else (404, missing)

    def _verify(self, body: bytes) -> Answer:
        asked = json.loads(body)
        is_ours = (asked["transmission_sig"], asked["webhook_id"]) == ("signed", "WH-1")
        # The signature is over the bytes that were sent, which JSON written anew is not.
        is_ours = is_ours and self.signed in body
        return 200, {"verification_status": "SUCCESS" if is_ours else "FAILURE"}

    @staticmethod
    def _value(thing: dict[str, Any]) -> Decimal:
        return Decimal(thing["amount"]["value"])

    @staticmethod
    def _problem(name: str, issue: str) -> dict[str, Any]:
        return {"name": name, "message": "no", "details": [{"issue": issue}]}
