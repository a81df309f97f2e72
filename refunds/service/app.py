"""The service: the door for programs, the pages for people, the gateway's webhook."""

from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

from fastapi import FastAPI
from starlette.middleware.sessions import SessionMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.staticfiles import StaticFiles

from refunds.service import (
    api,
    health,
    inbox,
    metrics,
    nights,
    oidc,
    pages,
    problems,
    refund_page,
    sign_in,
    steering_api,
    steering_many,
    stuck,
    timeline,
    webhooks,
)
from refunds.service.guard import Guard
from refunds.settings import Settings, settings

_STATIC = Path(__file__).with_name("static")

# How long a sign-in may take, in seconds: a company's own page, a second factor, a coffee.
_SIGN_IN_SECONDS = 600


def build(current: Settings) -> FastAPI:
    """The application for these settings."""
    app = FastAPI(
        title="durable-refunds",
        version=version("durable-refunds"),
        docs_url=None,
        redoc_url=None,
        summary="Refunds that are never lost and never paid twice.",
    )
    for module in (api, steering_api, steering_many, health, metrics, webhooks):
        app.include_router(module.router)
    for page in (sign_in, inbox, refund_page, timeline, stuck, nights):
        app.include_router(page.router, include_in_schema=False)
    app.mount("/static", StaticFiles(directory=_STATIC), name="static")
    problems.install(app)
    pages.install(app)
    oidc.install(app, current)
    _add_middleware(app, current)
    return app


def _add_middleware(app: FastAPI, current: Settings) -> None:
    """The last one added is the first that a request meets."""
    https = current.service_url.startswith("https:")
    app.add_middleware(
        SessionMiddleware,
        # Only a sign-in that is under way lives in it; people's sessions are in the ledger.
        secret_key=current.service_secret_text,
        session_cookie="refunds-sign-in",
        path="/sign-in",
        max_age=_SIGN_IN_SECONDS,
        same_site="lax",
        https_only=https,
    )
    app.add_middleware(Guard, https=https)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=_hosts(current), www_redirect=False)
    app.add_middleware(metrics.Counted)


def _hosts(current: Settings) -> list[str]:
    """The names under which the service answers; any other may be somebody's trick."""
    named = [host.strip() for host in current.service_hosts.split(",") if host.strip()]
    return [*named, "127.0.0.1", "localhost", urlsplit(current.service_url).hostname or ""]


app = build(settings())
