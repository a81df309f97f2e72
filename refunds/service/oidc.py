"""The company's own sign-in, by OpenID Connect."""

from typing import Any

import httpx2
from authlib.integrations.base_client import OAuthError
from authlib.integrations.starlette_client import OAuth
from fastapi import FastAPI, Request
from fastapi.responses import Response
from joserfc.errors import JoseError

from refunds.ledger.access import accounts
from refunds.settings import Settings
from tasks import books, http

_NAME = "company"

# Where a provider says how its tokens are signed.
_ALGORITHMS = "id_token_signing_alg_values_supported"

# A provider that takes longer is away, in seconds.
_ANSWER_SECONDS = 10


class ProviderAway(Exception):
    """The company's sign-in does not answer."""


class NotLinked(Exception):
    """The company knows them and we do not. Fields: `issuer`, `subject`."""

    def __init__(self, issuer: str, subject: str) -> None:
        super().__init__(issuer, subject)
        self.issuer = issuer
        self.subject = subject


def install(app: FastAPI, current: Settings, transport: Any = None) -> None:
    """Know the company's provider, where the settings name one."""
    app.state.company = None
    if not current.oidc_issuer:
        return
    oauth = OAuth()
    # PKCE: a code that leaks on its way through the browser is worth nothing without our half.
    client = {
        "scope": "openid profile email",
        "code_challenge_method": "S256",
        "timeout": _ANSWER_SECONDS,
    }
    oauth.register(
        _NAME,
        server_metadata_url=f"{current.oidc_issuer.rstrip('/')}/.well-known/openid-configuration",
        client_id=current.oidc_client_id,
        client_secret=current.oidc_client_secret.get_secret_value() or None,
        client_kwargs=client | ({"transport": transport} if transport else {}),
    )
    app.state.company = oauth.create_client(_NAME)


def is_on(request: Request) -> bool:
    """Whether people can sign in with the company's account."""
    return request.app.state.company is not None


async def begin(request: Request, callback: str) -> Response:
    """Send the browser to the provider; state, nonce and PKCE are remembered meanwhile."""
    try:
        answer: Response = await request.app.state.company.authorize_redirect(request, callback)
    except httpx2.HTTPError as error:
        raise ProviderAway(type(error).__name__) from error
    return answer


async def finish(request: Request) -> str:
    """The person who comes back, by the identity that was linked to them.

    Raises ValueError when the answer is not one to our question, NotLinked for a stranger,
    ProviderAway.
    """
    try:
        await _take_signed_tokens_only(request.app.state.company)
        token = await request.app.state.company.authorize_access_token(request)
    except httpx2.HTTPError as error:
        raise ProviderAway(type(error).__name__) from error
    except JoseError as error:
        raise ValueError(f"the provider's token is not good: {error.error}") from error
    except OAuthError as error:
        # A provider may repeat in its reason what it was told.
        raise ValueError(http.in_short(str(error.description or error.error))) from error
    claims = token.get("userinfo") or {}
    issuer, subject = str(claims.get("iss", "")), str(claims.get("sub", ""))
    if not issuer or not subject:
        raise ValueError("the provider did not say who signed in")
    person_id = accounts.linked(books.ledger(), issuer, subject)
    if person_id is None:
        raise NotLinked(issuer, subject)
    return person_id


async def _take_signed_tokens_only(company: Any) -> None:
    """A provider may say that it also makes tokens which nobody signs; none is taken here."""
    known = await company.load_server_metadata()
    algorithms = known.get(_ALGORITHMS) or ()
    known[_ALGORITHMS] = [name for name in algorithms if name.lower() != "none"]
