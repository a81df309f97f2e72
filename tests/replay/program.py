"""A program with a key at the service's door."""

from __future__ import annotations

from typing import Any

from httpx2 import Response
from starlette.testclient import TestClient

from refunds.ledger import Ledger
from refunds.ledger.access import api_keys
from refunds.scopes import Scope


class Program:
    """What somebody's script sends and is answered; its key has these scopes."""

    def __init__(self, client: TestClient, ledger: Ledger, *scopes: Scope, **more: Any) -> None:
        self._client, self._ledger = client, ledger
        key = api_keys.create(ledger, "ops-bot", list(scopes), **more)
        self._headers = {"Authorization": f"Bearer {key}"}

    def with_key(self, *scopes: Scope, **more: Any) -> Program:
        """Another one at the same door."""
        return Program(self._client, self._ledger, *scopes, **more)

    def get(self, path: str) -> Response:
        return self._client.get(path, headers=self._headers)

    def post(self, path: str, **body: Any) -> Response:
        return self._client.post(path, json=body, headers=self._headers)
