"""A local server that speaks OpenAI's chat API and remembers what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from refunds.settings import settings
from tasks import chat

FINE = {
    "recommendation": "approve",
    "confidence_percent": 95,
    "reasons": ["An ordinary return."],
    "signals": [],
}


def completion(content: str | None, **changed: Any) -> dict[str, Any]:
    """A chat completion with one answer; `finish_reason` and `refusal` may be changed."""
    message = {"role": "assistant", "content": content, "refusal": changed.pop("refusal", None)}
    choice = {"index": 0, "message": message, "finish_reason": changed.pop("finish_reason", "stop")}
    usage = {"prompt_tokens": 1_000, "completion_tokens": 50, "total_tokens": 1_050}
    return {
        "id": "chat_1",
        "object": "chat.completion",
        "choices": [choice],
        "usage": usage,
    } | changed


@dataclass(frozen=True)
class Said:
    """One answer on the wire: a status with a body, sent once `hold` is over."""

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    hold: Callable[[], object] = lambda: None

    @classmethod
    def json(cls, value: object, status: int = 200, **headers: str) -> Said:
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        return cls(status, json.dumps(value).encode(), named)

    @classmethod
    def answer(cls, **changed: Any) -> Said:
        """A fine answer with some fields changed."""
        return cls.json(completion(json.dumps(FINE | changed)))


Behaviour = Callable[[dict[str, Any]], Said]


class ModelServer:
    """What it was asked, in order, and with which keys; `behave` answers."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.behave: Behaviour = lambda _: Said.answer()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def questions(self) -> list[str]:
        """The user's turn of each question."""
        return [asked["messages"][-1]["content"] for asked in self.asked]

    @contextmanager
    def running(self) -> Iterator[ModelServer]:
        self._thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                assert self.path == "/v1/chat/completions"
                server.asked.append(asked)
                server.keys.append(self.headers["Authorization"])
                said = server.behave(asked)
                said.hold()
                self.send_response(said.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(said.body)))
                for name, value in said.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(said.body)

            def log_message(self, *_: Any) -> None:
                """Nothing is written to the tests' output."""

        return Handler


@contextmanager
def asked_by_us(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    """A server that the settings name, and of which nothing is known from before."""
    with ModelServer().running() as server:
        monkeypatch.setenv("REFUNDS_MODEL_URL", server.url)
        monkeypatch.setenv("REFUNDS_MODEL_NAME", "reader-1")
        settings.cache_clear()
        chat._understood.clear()
        yield server
