"""Errors, keys and identity as Stripe's API speaks of them."""

from collections.abc import Mapping

from sandbox.answers import Answer, Refused
from sandbox.dialects import Dialect

_BEARER = "bearer "
_KEY_PREFIX = "sk_"
# Enough of a key to recognise it, too little to use it.
_KEY_SHOWN = 7


def stripe_error(
    status: int,
    message: str,
    *,
    kind: str = "invalid_request_error",
    code: str | None = None,
    param: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Return Stripe's error body; `code` and `param` are left out where Stripe has none."""
    fields = {"type": kind, "code": code, "message": message, "param": param}
    present = {name: value for name, value in fields.items() if value is not None}
    return Answer.of(status, {"error": present}, headers)


def invalid(message: str, *, code: str | None = None, param: str | None = None) -> Refused:
    """Return the refusal of a bad parameter; nothing is stored under the key."""
    return Refused(stripe_error(400, message, code=code, param=param))


def missing(kind: str, identifier: str, *, status: int = 404, param: str = "id") -> Refused:
    """Return the refusal of an id that names nothing: 404 in a path, 400 in a parameter."""
    message = f"No such {kind}: '{identifier[:100]}'"
    return Refused(stripe_error(status, message, code="resource_missing", param=param))


def _authenticate(headers: Mapping[str, str]) -> None:
    authorization = headers.get("authorization", "")
    if authorization[: len(_BEARER)].lower() != _BEARER:
        message = "You did not provide an API key. Send 'Authorization: Bearer sk_...'."
        raise Refused(stripe_error(401, message))
    key = authorization[len(_BEARER) :].strip()
    if not key.startswith(_KEY_PREFIX) or key == _KEY_PREFIX:
        message = f"Invalid API Key provided: {key[:_KEY_SHOWN]}***"
        raise Refused(stripe_error(401, message))


STRIPE_DIALECT = Dialect(
    authenticate=_authenticate,
    key_required=False,
    one_at_a_time=True,
    trouble=lambda status: stripe_error(
        status, "An unknown error occurred on our side.", kind="api_error"
    ),
    rate_limited=lambda seconds: stripe_error(
        429,
        "Request rate limit exceeded.",
        code="rate_limit",
        headers={"Retry-After": str(seconds)},
    ),
    unauthorized=lambda: stripe_error(401, "Invalid API Key provided: sk_***"),
    bad_key=lambda text: stripe_error(400, text, kind="idempotency_error"),
    key_reused=lambda key: stripe_error(
        400,
        "Keys for idempotent requests can only be used with the same parameters and endpoint they"
        f" were first used with. Use another key than '{key}' for another request.",
        kind="idempotency_error",
    ),
    key_in_use=lambda key: stripe_error(
        409,
        f"Another request with the key '{key}' is in progress.",
        kind="idempotency_error",
        code="idempotency_key_in_use",
    ),
)
