"""How a system speaks of keys, identity and trouble: all but the gateway share one way."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sandbox.answers import Answer, Refused
from sandbox.idempotency import KEY_LENGTH
from sandbox.records import error


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """The answers of one system to everything that is not its own business.

    `one_at_a_time` refuses a key that another request is using at this moment.
    """

    authenticate: Callable[[Mapping[str, str]], None]
    key_required: bool
    one_at_a_time: bool
    trouble: Callable[[int], Answer]
    rate_limited: Callable[[int], Answer]
    unauthorized: Callable[[], Answer]
    bad_key: Callable[[str], Answer]
    key_reused: Callable[[str], Answer]
    key_in_use: Callable[[str], Answer]

    def key_of(self, headers: Mapping[str, str]) -> str | None:
        """Return the Idempotency-Key; raises Refused when it is unusable or absent but required."""
        key = headers.get("idempotency-key")
        if key is None and not self.key_required:
            return None
        if not key:
            raise Refused(self.bad_key("The header Idempotency-Key is required."))
        if len(key) > KEY_LENGTH or not key.isascii() or not key.isprintable():
            text = f"An Idempotency-Key is at most {KEY_LENGTH} printable ASCII characters."
            raise Refused(self.bad_key(text))
        return key


def _anyone(headers: Mapping[str, str]) -> None:
    del headers


JSON_DIALECT = Dialect(
    authenticate=_anyone,
    key_required=True,
    one_at_a_time=False,
    trouble=lambda status: error(status, "server_error", "Something went wrong here."),
    rate_limited=lambda seconds: Answer(
        429,
        error(429, "rate_limited", "Too many requests.").body,
        {"Retry-After": str(seconds)},
    ),
    unauthorized=lambda: error(401, "unauthorized", "The credentials were not accepted."),
    bad_key=lambda text: error(400, "invalid_idempotency_key", text),
    key_reused=lambda key: error(
        422, "idempotency_key_reused", f"The key {key} was first used for another request."
    ),
    key_in_use=lambda key: error(
        409, "idempotency_key_in_use", f"The key {key} is used by another request right now."
    ),
)
