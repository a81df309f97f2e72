"""A program with a key at the service's door."""

from typing import Any

from httpx2 import Response
from starlette.testclient import TestClient


class Program:
    """What somebody's script sends and is answered."""

    def __init__(self, client: TestClient, key: str) -> None:
        self._client = client
        self._headers = {"Authorization": f"Bearer {key}"}

    def get(self, path: str) -> Response:
        return self._client.get(path, headers=self._headers)

    def post(self, path: str, **body: Any) -> Response:
        return self._client.post(path, json=body, headers=self._headers)
