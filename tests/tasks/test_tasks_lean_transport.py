"""The transport for API calls keeps httpx's word about what can have been sent."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import zlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import lean_connection, lean_transport
from tasks.lean_transport import LeanTransport
from tests.tasks.rude_server import CLOSE, HANG, RESET, Act, rude_server

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n"
LIMITS = httpx.Limits(max_connections=4, max_keepalive_connections=4)


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """A flow has asyncio's own loop; a server started with plain `uvicorn` has uvloop."""
    return "asyncio", {"use_uvloop": request.param}


async def ask(
    way: httpx.AsyncBaseTransport, url: str, *, seconds: float = 10.0, **fields: Any
) -> httpx.Response:
    """One call; everything is bounded."""
    method = fields.pop("method", "POST")
    timeout = httpx.Timeout(seconds).as_dict()
    request = httpx.Request(method, url, extensions={"timeout": timeout}, **fields)
    response = await way.handle_async_request(request)
    await response.aread()
    await response.aclose()
    return response


async def asked_once(*script: Sequence[Act], seconds: float = 10.0) -> httpx.Response:
    """One call to a server that answers so; whatever comes of it, it was sent once."""
    async with rude_server(*script) as server:
        way = LeanTransport(LIMITS)
        try:
            return await ask(way, server.url, seconds=seconds, json={"amount": 7})
        finally:
            await way.aclose()
            assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("acts", "status", "body"),
    [
        ([OK], 200, b"ok"),
        ([b"HTTP/1.1 204 No Content\r\n\r\n"], 204, b""),
        ([b"HTTP/1.1 402 No\r\nContent-Length: 0\r\n\r\n"], 402, b""),
        ([b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"], 200, b"ok"),
        ([CHUNKED], 200, b"ok"),
        ([b"HTTP/1.1 200 OK\r\n\r\nok", CLOSE], 200, b"ok"),
        ([b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", OK],
         200, b"ok"),
        ([b"HTTP/1.1 302 Found\r\nLocation: /else\r\nContent-Length: 0\r\n\r\n"], 302, b""),
        ([bytes([byte]) for byte in OK], 200, b"ok"),
    ],
    ids=["length", "empty", "refusal", "1.0", "chunks", "until-close", "1xx", "redirect", "bytes"],
)  # fmt: skip
async def test_every_way_to_put_an_answer_is_understood_and_none_is_followed(
    acts: Sequence[Act], status: int, body: bytes
) -> None:
    response = await asked_once(acts)
    assert (response.status_code, response.content) == (status, body)


@pytest.mark.parametrize(
    "acts",
    [
        [CLOSE],
        [RESET],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", CLOSE],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", RESET],
        [b"HTTP/1.1 200 OK\r\nContent-", CLOSE],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhal", CLOSE],
        [b"HTTP/1.1 100 Continue\r\n\r\n", CLOSE],
        [b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", HANG],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc", HANG],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
         HANG],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nab", CLOSE],
        [b"SSH-2.0-OpenSSH_9.6\r\n", HANG],
        [b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 2\r\n\r\nok"],
        [b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nok"],
        [b"HTTP/1.1 200 OK\r\n\r\nhalf", RESET],
    ],
)  # fmt: skip
async def test_what_is_no_whole_answer_ends_in_an_error_that_says_it_may_have_been_sent(
    acts: Sequence[Act],
) -> None:
    with pytest.raises(httpx.HTTPError) as caught:
        await asked_once(acts)
    not_sent = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
    assert not isinstance(caught.value, not_sent)


async def test_a_system_that_never_finishes_its_answer_holds_nobody_longer_than_the_timeout() -> (
    None
):
    trickle: list[Act] = [b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n", HANG]
    with pytest.raises(httpx.ReadTimeout):
        await asked_once(trickle, seconds=0.2)


async def test_an_answer_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lean_connection, "LONGEST_BODY", 1_000)
    monkeypatch.setattr(lean_connection, "LONGEST_HEAD", 1_000)
    floods: tuple[bytes, ...] = (
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 2_000,
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 400,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 100,
    )
    for flood in floods:
        with pytest.raises(httpx.RemoteProtocolError):
            await asked_once([flood, HANG])


@pytest.mark.parametrize(("name", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_a_packed_answer_is_unpacked_as_far_as_a_plain_one_may_be_long(
    name: str, pack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def packed(body: bytes) -> bytes:
        sent: bytes = pack(body)
        head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {name}\r\nContent-Length: {len(sent)}\r\n\r\n"
        return head.encode() + sent

    assert (await asked_once([packed(b"x" * 900)])).content == b"x" * 900
    monkeypatch.setattr(lean_transport, "LONGEST_BODY", 1_000)
    with pytest.raises(httpx.DecodingError):
        await asked_once([packed(b"x" * 1_000_000)])


async def test_a_connection_is_kept_and_one_that_was_closed_meanwhile_is_not_used() -> None:
    async with rude_server([OK], [OK, CLOSE], [OK]) as server:
        way = LeanTransport(LIMITS)
        for _ in range(2):
            assert (await ask(way, server.url)).content == b"ok"
        assert server.connections == 1
        await server.has_ended_one.wait()
        assert (await ask(way, server.url)).content == b"ok"
        assert (server.connections, len(server.requests)) == (2, 3)
        await way.aclose()


async def test_a_kept_connection_that_breaks_under_a_request_is_not_tried_again() -> None:
    async with rude_server([OK], [RESET], [OK]) as server:
        way = LeanTransport(LIMITS)
        await ask(way, server.url)
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            await ask(way, server.url)
        assert len(server.requests) == 2
        await way.aclose()


async def test_an_answer_that_nobody_asked_for_is_never_taken_for_the_next_one() -> None:
    lie = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nlie"
    async with rude_server([OK + lie], [OK]) as server:
        way = LeanTransport(LIMITS)
        for _ in range(2):
            assert (await ask(way, server.url)).content == b"ok"
        assert server.connections == 2
        await way.aclose()


async def test_who_finds_nobody_or_no_free_connection_has_sent_nothing() -> None:
    async with rude_server([HANG]) as server:
        way = LeanTransport(httpx.Limits(max_connections=1))
        first = asyncio.create_task(ask(way, server.url))
        await server.was_asked.wait()
        with pytest.raises(httpx.PoolTimeout):
            await ask(way, server.url, seconds=0.05)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert len(server.requests) == 1
    with pytest.raises(httpx.ConnectError):
        await ask(way, server.url)


async def test_a_call_that_is_given_up_leaves_no_connection_for_the_next_one() -> None:
    late = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate"
    async with rude_server([HANG], [late]) as server:
        way = LeanTransport(LIMITS)
        with pytest.raises(httpx.ReadTimeout):
            await ask(way, server.url, seconds=0.1)
        assert (await ask(way, server.url)).content == b"late"
        assert server.connections == 2
        await way.aclose()


@pytest.mark.parametrize("bad", ["a\r\nX: y", "a\nb", "a\0b"])
async def test_a_header_that_would_break_out_of_its_line_is_not_sent(bad: str) -> None:
    async with rude_server([OK]) as server:
        with pytest.raises(httpx.LocalProtocolError):
            await ask(LeanTransport(LIMITS), server.url, headers={"Idempotency-Key": bad})
        assert server.requests == []


async def test_what_it_does_not_do_itself_goes_the_way_of_httpx() -> None:
    async with rude_server([b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"]) as server:
        way = LeanTransport(LIMITS)
        assert (await ask(way, server.url, method="HEAD")).status_code == 200
        await way.aclose()


async def test_what_is_sent_is_what_httpx_would_send() -> None:
    async with rude_server([OK]) as server:
        for way in (LeanTransport(LIMITS), httpx.AsyncHTTPTransport()):
            url = f"{server.url}/v1/refunds?reference=rf_1%3Ax&q=ü"
            await ask(way, url, json={"note": "Größe"}, headers={"Idempotency-Key": "rf_1:pay"})
            await way.aclose()
        ours, theirs = server.requests
        assert ours == theirs


@settings(max_examples=60, deadline=None)
@given(
    data=st.one_of(
        st.binary(max_size=200),
        st.builds(
            lambda head, at, noise: head[:at] + noise + head[at:],
            st.sampled_from([OK, CHUNKED]),
            st.integers(0, 60),
            st.binary(max_size=8),
        ),
    ),
    parts=st.integers(1, 5),
)  # fmt: skip
def test_whatever_a_server_says_ends_in_an_answer_or_in_one_of_httpx_s_errors(
    data: bytes, parts: int
) -> None:
    size = max(1, len(data) // parts)
    acts = [data[at : at + size] for at in range(0, len(data), size)]

    async def say_it() -> None:
        try:
            found = await asked_once([*acts, CLOSE])
        except httpx.HTTPError:
            return
        assert 200 <= found.status_code < 1_000
        # A whole answer is in what was said, and nothing else was made of it.
        assert found.content in data or b"chunked" in data

    asyncio.run(say_it())


@pytest.mark.parametrize("cut", range(len(OK)))
def test_an_answer_that_is_cut_anywhere_is_none(cut: int) -> None:
    with pytest.raises(httpx.HTTPError):
        asyncio.run(asked_once([OK[:cut], CLOSE]))


def self_signed(folder: Path) -> Path:
    """A certificate for localhost with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    plain = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = folder / "localhost.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, *plain)
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


async def test_a_server_is_believed_only_with_a_certificate_that_somebody_vouches_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pem = self_signed(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(pem)
    async with rude_server([OK], tls=tls) as server:
        with pytest.raises(httpx.ConnectError):
            await ask(LeanTransport(LIMITS), server.url)
        assert server.requests == []
        monkeypatch.setenv("SSL_CERT_FILE", str(pem))
        way = LeanTransport(LIMITS)
        for _ in range(2):
            assert (await ask(way, server.url)).content == b"ok"
        assert len(server.requests) == 2
        with pytest.raises(httpx.ConnectError):
            await ask(way, server.url.replace("localhost", "127.0.0.1"))
        await way.aclose()
