"""A fast outside world: gateway, CRM, coupons, logistics and notices that remember every key.

`python -m benchmarks.outside PORT` answers in a tenth of a millisecond, so that what is measured
is the engine. It keeps what it was sent: `GET /seen` counts calls, effects and repeated keys.
"""

import asyncio
import sys
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httptools
import orjson

# What the plain systems call the id of what they make.
_ID_FIELDS = {
    "cases": "case_id",
    "coupons": "coupon_id",
    "holds": "hold_id",
    "labels": "label_id",
    "messages": "message_id",
}

Answer = dict[str, Any]


class World:
    """What was done, by the key under which it was asked for."""

    def __init__(self) -> None:
        self.calls = 0
        self.repeats = 0
        self.refunds: dict[str, Answer] = {}
        self.things: dict[str, Answer] = {}

    def answer(self, method: str, path: str, query: dict[str, str], key: str, body: bytes) -> Any:
        """What one call is answered with."""
        if path == "/seen":
            return {
                "calls": self.calls,
                "repeats": self.repeats,
                "refunds": len(self.refunds),
                "things": len(self.things),
            }
        self.calls += 1
        if path == "/gateway/v1/refunds":
            return self._refund(key, body) if method == "POST" else self._books(query)
        if path.startswith("/gateway/v1/charges/"):
            return {"id": path.rpartition("/")[2], "object": "charge", "disputed": False}
        collection = path.rpartition("/")[2]
        if method == "POST":
            return self._thing(collection, key, body)
        found = self.things.get(query.get("reference", ""))
        return {collection: [found] if found else []}

    def _refund(self, key: str, body: bytes) -> Answer:
        if key in self.refunds:
            self.repeats += 1
            return self.refunds[key]
        form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        metadata = {
            name[9:-1]: value for name, value in form.items() if name.startswith("metadata[")
        }
        made = {
            "id": f"re_{len(self.refunds) + 1:07}",
            "object": "refund",
            "status": "succeeded",
            "amount": int(form["amount"]),
            "currency": "usd",
            "charge": form["charge"],
            "metadata": metadata,
        }
        self.refunds[key] = made
        return made

    def _books(self, query: dict[str, str]) -> Answer:
        """Newest first, as Stripe lists them."""
        listed = [
            refund
            for refund in reversed(self.refunds.values())
            if query.get("charge") in (None, refund["charge"])
        ]
        after = query.get("starting_after")
        begin = next((n + 1 for n, refund in enumerate(listed) if refund["id"] == after), 0)
        end = begin + int(query.get("limit", "100"))
        return {"object": "list", "data": listed[begin:end], "has_more": end < len(listed)}

    def _thing(self, collection: str, key: str, body: bytes) -> Answer:
        if key in self.things:
            self.repeats += 1
            return self.things[key]
        reference = orjson.loads(body).get("reference", key)
        made = {_ID_FIELDS[collection]: f"{collection}_{len(self.things)}", "reference": reference}
        self.things[key] = made
        return made


class Exchange(asyncio.Protocol):
    """One connection: parse, answer, go on."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._begin()

    def _begin(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._url, self._key, self._body = b"", "", b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Let the parser call what is below."""
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        """The request's target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Only the key counts."""
        if name.lower() == b"idempotency-key":
            self._key = value.decode()

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._body += body

    def on_message_complete(self) -> None:
        """Answer."""
        target = urlsplit(self._url.decode())
        query = {name: values[0] for name, values in parse_qs(target.query).items()}
        method = self._parser.get_method().decode()
        answer = orjson.dumps(self._world.answer(method, target.path, query, self._key, self._body))
        self._transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (len(answer), answer)
        )
        self._url, self._key, self._body = b"", "", b""


async def serve(port: int) -> None:
    """Answer on this port until the process is ended."""
    world = World()
    server = await asyncio.get_running_loop().create_server(
        lambda: Exchange(world), "127.0.0.1", port
    )
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
