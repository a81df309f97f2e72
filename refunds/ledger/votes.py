"""One person's decision as it arrives at a door."""

from dataclasses import dataclass
from typing import Literal

from refunds.links import Link
from refunds.models import Decision
from refunds.origin import Origin

Choice = Literal["approve", "reject"]
MEANING: dict[str, Decision] = {"approve": Decision.APPROVED, "reject": Decision.REJECTED}


@dataclass(frozen=True)
class Vote:
    """One person's decision as it arrives at a door.

    `verified` says whether the door knows the person's identity; `digest`, when given, is what
    the person saw, and `link` what led there. `on_behalf_of` names who is away and whom the
    person acts for. `amount_minor` is a smaller amount to pay in place of what is asked: it is
    proposed by this vote, and approved by none (refunds/ledger/proposals.py). `answer` names what
    was typed into a form that may be read again.
    """

    choice: Choice
    person: str
    channel: str
    verified: bool
    reason: str = ""
    digest: str | None = None
    on_behalf_of: str | None = None
    link: Link | None = None
    amount_minor: int | None = None
    ip: str = ""
    user_agent: str = ""
    answer: str = ""

    @property
    def origin(self) -> Origin:
        """From where it came."""
        return Origin.of(self.channel, self.ip, self.user_agent)
