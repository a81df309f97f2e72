"""Signing in and out. A new sign-in is a new session: what the browser had before ends."""

import asyncio
import hmac
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response

from refunds import home_secrets
from refunds.ledger import people
from refunds.ledger.access import accounts, sessions
from refunds.ledger.access.sessions import How
from refunds.service import limits, metrics, oidc, pages, who
from refunds.service.problems import Refused
from refunds.service.who import Sender
from refunds.settings import settings
from tasks import books

router = APIRouter()

_FORM = "form"
_NEXT = "next"
_HOME = "/inbox"


@router.get("/")
async def front() -> Response:
    """People come for the inbox."""
    return pages.see(_HOME)


@router.get("/sign-in")
def form(request: Request, next: str = _HOME) -> Response:  # noqa: A002 - the parameter's name
    """The form; a GET signs nobody in."""
    return _form(request, target=_local(next))


@router.post("/sign-in")
def sign_in(
    request: Request,
    person: Annotated[str, Form(max_length=128)] = "",
    password: Annotated[str, Form(max_length=1_000)] = "",
    target: Annotated[str, Form(alias="next", max_length=4_000)] = _HOME,
    form_token: Annotated[str, Form(max_length=128)] = "",
) -> Response:
    """Sign in with a password of ours."""
    expected = str(request.session.pop(_FORM, ""))
    is_ours = bool(expected) and hmac.compare_digest(expected.encode(), form_token.encode())
    if not is_ours or not who.comes_from_here(request):
        metrics.sign_ins.labels("form-not-ours").inc()
        return _form(request, target=_local(target), problem="The form was too old. Try again.")
    address, known = who.origin(request).ip, person.strip()
    limits.one_place.spend(address)
    limits.one_account_from_one_place.spend(f"{address}:{known.casefold()}")
    person_id = accounts.known_as(books.ledger(), known)
    registered = people.find(books.ledger(), person_id)
    is_known = accounts.check_password(books.ledger(), person_id, password)
    if not is_known or (registered is not None and not registered.is_active):
        metrics.sign_ins.labels("refused").inc()
        return _form(
            request,
            target=_local(target),
            person=known,
            problem="Name and password do not belong together.",
            status=HTTPStatus.UNAUTHORIZED,
        )
    return _signed_in(request, person_id, "password", _local(target))


@router.get("/sign-in/company")
async def company(request: Request, next: str = _HOME) -> Response:  # noqa: A002 - as above
    """Go to the company's own sign-in."""
    if not oidc.is_on(request):
        raise Refused(HTTPStatus.NOT_FOUND, "no-company", "no company sign-in is set up here")
    limits.one_place.spend(who.origin(request).ip)
    request.session[_NEXT] = _local(next)
    try:
        return await oidc.begin(request, f"{settings().service_url}/sign-in/company/back")
    except oidc.ProviderAway as error:
        raise _provider_away(error) from error


@router.get("/sign-in/company/back")
async def company_back(request: Request) -> Response:
    """Come back from there; state, nonce and PKCE say that it is the same browser."""
    if not oidc.is_on(request):
        raise Refused(HTTPStatus.NOT_FOUND, "no-company", "no company sign-in is set up here")
    target = _local(str(request.session.pop(_NEXT, _HOME)))
    try:
        person_id = await oidc.finish(request)
    except oidc.ProviderAway as error:
        raise _provider_away(error) from error
    except oidc.NotLinked as stranger:
        metrics.sign_ins.labels("stranger").inc()
        raise Refused(
            HTTPStatus.FORBIDDEN,
            "not-linked",
            "your company account is known, but is not linked to an approver here",
            f"Ask for: refunds accounts link PERSON {stranger.issuer} {stranger.subject}",
        ) from stranger
    except ValueError as error:
        metrics.sign_ins.labels("refused").inc()
        raise Refused(
            HTTPStatus.UNAUTHORIZED, "sign-in-refused", str(error), "Begin again at /sign-in."
        ) from error
    return await asyncio.to_thread(_signed_in, request, person_id, "oidc", target)


@router.post("/sign-out")
def sign_out(visitor: Sender) -> Response:
    """End the session here and everywhere."""
    sessions.close(books.ledger(), visitor.session)
    answer = pages.see("/sign-in")
    answer.delete_cookie(who.cookie_name(), path="/", secure=who.is_https(), httponly=True)
    return answer


def _signed_in(request: Request, person_id: str, how: How, target: str) -> Response:
    before = request.cookies.get(who.cookie_name())
    token = sessions.open_session(
        books.ledger(), person_id, how, who.origin(request), replaces=before
    )
    metrics.sign_ins.labels(how).inc()
    request.session.clear()
    answer = pages.see(target)
    # Strict would drop it when a card's link is clicked; forms carry a token besides.
    answer.set_cookie(
        who.cookie_name(), token, path="/", secure=who.is_https(), httponly=True, samesite="lax"
    )
    return answer


def _form(
    request: Request,
    *,
    target: str,
    person: str = "",
    problem: str = "",
    status: HTTPStatus = HTTPStatus.OK,
) -> Response:
    request.session[_FORM] = home_secrets.random_text()
    return pages.show(
        "sign_in.html",
        status=status,
        form_token=request.session[_FORM],
        target=target,
        person=person,
        problem=problem,
        has_company=oidc.is_on(request),
    )


def _local(target: str) -> str:
    """A page of ours, or the inbox: nobody is led elsewhere after they signed in."""
    is_ours = target.startswith("/") and not target.startswith(("//", "/\\")) and "\\" not in target
    return target if is_ours and target.isprintable() else _HOME


def _provider_away(error: oidc.ProviderAway) -> Refused:
    return Refused(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "provider-away",
        f"the company's sign-in does not answer ({error})",
        "Try again in a minute.",
    )
