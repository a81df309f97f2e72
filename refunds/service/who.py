"""Who is asking: a machine with a key, or a person with a session."""

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated
from urllib.parse import quote

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from refunds.errors import RefundError
from refunds.ledger import people
from refunds.ledger.access import api_keys, sessions
from refunds.ledger.access.api_keys import ApiKey
from refunds.ledger.access.sessions import Session
from refunds.origin import Origin
from refunds.scopes import Scope
from refunds.service import limits
from refunds.service.problems import Refused
from refunds.settings import settings
from tasks import books

_bearer = HTTPBearer(
    scheme_name="key",
    description="A key of `refunds keys create`, as `Authorization: Bearer rfk_…`.",
    auto_error=False,
)


class NotSignedIn(RefundError):
    """A page needs a person. Field: `target`, the page to go on to."""

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.target = target


@dataclass(frozen=True)
class Visitor:
    """A signed-in person at a page."""

    session: Session
    origin: Origin

    @property
    def person_id(self) -> str:
        """Who it is."""
        return self.session.person_id


def origin(request: Request) -> Origin:
    """Where the request comes from."""
    address = request.client.host if request.client else ""
    return Origin.of("service", address, request.headers.get("user-agent", ""))


def machine(scope: Scope) -> Callable[..., ApiKey]:
    """A dependency: the key of a machine that may do this, within its rate."""

    def known(
        request: Request,
        given: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
    ) -> ApiKey:
        key = api_keys.find(books.ledger(), given.credentials) if given is not None else None
        if key is None:
            limits.strangers.spend(origin(request).ip)
            raise Refused(
                HTTPStatus.UNAUTHORIZED,
                "key-needed",
                "this door needs a key that is known, not revoked and not expired",
                "Make one with `refunds keys create` and send it as `Authorization: Bearer …`.",
                {"WWW-Authenticate": "Bearer"},
            )
        limits.machines.spend(key.key_id)
        if scope not in key.scopes:
            raise Refused(
                HTTPStatus.FORBIDDEN,
                "scope-needed",
                f"this key has no {scope}",
                f"Make one that has: `refunds keys create NAME --scope {scope}`.",
            )
        return key

    return known


def cookie_name() -> str:
    """A browser keeps a `__Host-` cookie from other hosts and from anything but HTTPS."""
    return "__Host-refunds" if is_https() else "refunds"


def is_https() -> bool:
    """Whether people reach this service by HTTPS."""
    return settings().service_url.startswith("https:")


def session(request: Request) -> Session | None:
    """The session that the browser shows, if it lives and its person still has a place here."""
    token = request.cookies.get(cookie_name())
    found = sessions.find(books.ledger(), token) if token else None
    if found is None:
        return None
    registered = people.find(books.ledger(), found.person_id)
    return found if registered is None or registered.is_active else None


def person(request: Request) -> Visitor:
    """A dependency of pages that need somebody; others are led to the sign-in."""
    found = session(request)
    if found is None:
        target, query = request.url.path, request.url.query
        if request.method != "GET":
            # What was sent is gone; the page that it came from is the inbox or one click from it.
            target, query = "/inbox", ""
        raise NotSignedIn(quote(f"{target}?{query}" if query else target))
    return Visitor(found, origin(request))


async def sender(request: Request, visitor: Annotated[Visitor, Depends(person)]) -> Visitor:
    """A dependency of every form: the person, on a page that was ours."""
    given = str((await request.form()).get("form_token", "")).encode()
    is_ours = hmac.compare_digest(given, visitor.session.form_token.encode())
    if not is_ours or not comes_from_here(request):
        raise Refused(
            HTTPStatus.FORBIDDEN,
            "form-not-ours",
            "this form was not made for your session, so nothing was done",
            "Open the page again and send it from there.",
        )
    return visitor


def writer(visitor: Annotated[Visitor, Depends(sender)]) -> Visitor:
    """A dependency of forms that do something: whoever sends them, within their rate."""
    limits.people.spend(visitor.person_id)
    return visitor


def comes_from_here(request: Request) -> bool:
    """Whether the browser says that its page was ours; one that says nothing is asked nothing."""
    return request.headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")


Person = Annotated[Visitor, Depends(person)]
Sender = Annotated[Visitor, Depends(sender)]
Writer = Annotated[Visitor, Depends(writer)]
