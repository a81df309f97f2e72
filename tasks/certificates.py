"""Prefect's clients of one process share what they need for TLS.

Left to itself each of them reads all certificates anew, also to talk plain HTTP: 20 ms of
processor time, and a flow run makes eight clients.
"""

import functools
import ssl
from types import SimpleNamespace

import certifi
from prefect._internal import version_checking
from prefect.client import orchestration
from prefect.settings import PREFECT_API_SSL_CERT_FILE


@functools.cache
def _read(cafile: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=cafile)


def _create_default_context(*, cafile: str | None = None) -> ssl.SSLContext:
    # One without a file is changed by its caller afterwards: it stays the caller's own.
    return _read(cafile) if cafile else ssl.create_default_context()


def share() -> None:
    """Let the clients that this process makes from now on share them."""
    lent = SimpleNamespace(**{**vars(ssl), "create_default_context": _create_default_context})
    for module in (orchestration, version_checking):
        module.ssl = lent  # type: ignore[attr-defined]


def read() -> None:
    """Read them now, before the first client needs them."""
    _read(PREFECT_API_SSL_CERT_FILE.value() or certifi.where())
