"""Signed links to one question: for one person, one refund, one digest, until its deadline.

A link shows the way and who was told; it signs nobody in, and looking at it decides nothing. The
ledger lets each lead to one decision (refunds/ledger/spent_links.py).
"""

from datetime import UTC, datetime

from itsdangerous import BadData, URLSafeSerializer
from pydantic import ValidationError

from refunds import home_secrets
from refunds.digests import digest
from refunds.errors import LinkRefused
from refunds.settings import settings
from refunds.values import Value

# What is signed here is good for nothing else that is signed with the same secret.
_SALT = "refunds.review"

# A card's facts and a signature come to some 300 characters; whatever is longer is not a link.
_LONGEST_CHARACTERS = 2_000


class Link(Value):
    """What a link is good for; `until` is in UTC seconds."""

    refund_id: str
    person: str
    digest: str
    until: int

    @property
    def link_id(self) -> str:
        """The same facts are the same link, however often it is sent."""
        return digest(self.plain())


def sign(refund_id: str, person: str, asked_digest: str, until: datetime) -> str:
    """The link's token: the same for the same facts, so that a card sent again is the same."""
    link = Link(
        refund_id=refund_id, person=person, digest=asked_digest, until=int(until.timestamp())
    )
    token: str | bytes = _serializer().dumps(link.plain())
    return token if isinstance(token, str) else token.decode()


def read(token: str, now: datetime) -> Link:
    """What a token is good for. Raises LinkRefused when it is forged, broken or out of date."""
    if len(token) > _LONGEST_CHARACTERS:
        raise LinkRefused("this link is not one of ours; open the refund from your inbox")
    try:
        link = Link.model_validate(_serializer().loads(token))
    except (BadData, ValidationError) as error:
        raise LinkRefused(
            "this link is not one of ours or was changed; open the refund from your inbox"
        ) from error
    if int(now.timestamp()) >= link.until:
        ended = datetime.fromtimestamp(link.until, UTC)
        raise LinkRefused(f"this link expired {ended:%Y-%m-%d %H:%M} UTC")
    return link


def _serializer() -> URLSafeSerializer:
    """Signs with the newest secret and still reads what the older ones signed."""
    given = settings().link_secret.get_secret_value()
    keys = [key.strip() for key in given.split(",") if key.strip()]
    return URLSafeSerializer(
        keys[::-1] or [home_secrets.keep(settings().home_dir / "link.key")], salt=_SALT
    )
