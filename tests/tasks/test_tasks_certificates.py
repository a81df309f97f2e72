"""Prefect's clients of one process read their certificates once."""

from __future__ import annotations

import ssl
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from prefect.client.orchestration import PrefectClient
from prefect.settings import PREFECT_API_TLS_INSECURE_SKIP_VERIFY, temporary_settings

from tasks import certificates

_URL = "https://127.0.0.1:9/api"


def _trust(client: PrefectClient) -> ssl.SSLContext:
    pool = client._client._transport._pool  # type: ignore[attr-defined]
    context = pool._ssl_context
    assert isinstance(context, ssl.SSLContext)
    return context


def test_clients_share_what_they_trust() -> None:
    certificates.share()
    first, second = _trust(PrefectClient(_URL)), _trust(PrefectClient(_URL))

    assert first is second
    assert first.verify_mode is ssl.CERT_REQUIRED
    assert first.get_ca_certs()


def test_a_client_that_trusts_everybody_shares_with_nobody() -> None:
    certificates.share()
    with temporary_settings({PREFECT_API_TLS_INSECURE_SKIP_VERIFY: True}):
        assert _trust(PrefectClient(_URL)).verify_mode is ssl.CERT_NONE

    assert _trust(PrefectClient(_URL)).verify_mode is ssl.CERT_REQUIRED


def test_they_are_read_once_however_many_threads_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    really = ssl.create_default_context

    def counted(cafile: str | None = None) -> ssl.SSLContext:
        read.append(cafile)
        return really(cafile=cafile)

    certificates.share()
    certificates.read()
    monkeypatch.setattr(ssl, "create_default_context", counted)
    barrier = threading.Barrier(4)
    with ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(lambda: (barrier.wait(), PrefectClient(_URL))) for _ in range(4)]
        assert [client.result() for client in clients]

    assert read == []
