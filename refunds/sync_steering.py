"""Steering and recovering for programs without an event loop."""

import asyncio
from datetime import datetime
from typing import Any

from refunds.history_document import HistoryDocument
from refunds.models import State
from refunds.origin import Origin
from refunds.recovering import Recovering, Status
from refunds.settling import Settling
from refunds.steering import Steering, Told


class _Both(Steering, Recovering, Settling):
    """What is steered with."""


class SyncSteering:
    """The part of `Refunds` that looks back, goes back, and sets going again."""

    def history_document(self, refund_id: str) -> HistoryDocument:
        """As `AsyncRefunds.history_document`."""
        return asyncio.run(_Both().history_document(refund_id))

    def export(self, refund_id: str) -> bytes:
        """As `AsyncRefunds.export`."""
        return asyncio.run(_Both().export(refund_id))

    def reset(
        self, refund_id: str, to: str, *, person: str, reason: str = "", apply: bool = False
    ) -> Told:
        """As `AsyncRefunds.reset`."""
        return asyncio.run(_Both().reset(refund_id, to, person=person, reason=reason, apply=apply))

    def reset_all(
        self,
        to: str,
        *,
        person: str,
        state: State | str | None = None,
        needs: str = "",
        reason: str = "",
        apply: bool = False,
        after: str = "",
        limit: int | None = None,
    ) -> list[Told]:
        """As `AsyncRefunds.reset_all`."""
        given: dict[str, Any] = {"state": state, "needs": needs, "reason": reason, "apply": apply}
        given |= {"after": after, "limit": limit}
        return asyncio.run(_Both().reset_all(to, person=person, **given))

    def update(
        self,
        refund_id: str,
        *,
        person: str,
        reason: str = "",
        deadline: datetime | None = None,
        priority: int | None = None,
        audience: str | None = None,
        note: str = "",
        evidence: str = "",
    ) -> Told:
        """As `AsyncRefunds.update`."""
        changes: dict[str, Any] = {"deadline": deadline, "priority": priority, "note": note}
        changes |= {"audience": audience, "evidence": evidence}
        return asyncio.run(_Both().update(refund_id, person=person, reason=reason, **changes))

    def resume(self, refund_id: str, *, person: str = "", reason: str = "") -> Status:
        """As `AsyncRefunds.resume`."""
        return asyncio.run(_Both().resume(refund_id, person=person, reason=reason))

    def resume_all(
        self,
        *,
        person: str,
        state: State | str = State.NEEDS_ATTENTION,
        needs: str = "",
        reason: str = "",
        apply: bool = False,
        after: str = "",
        limit: int | None = None,
    ) -> list[Status]:
        """As `AsyncRefunds.resume_all`."""
        given: dict[str, Any] = {"state": state, "needs": needs, "reason": reason, "apply": apply}
        given |= {"after": after, "limit": limit}
        return asyncio.run(_Both().resume_all(person=person, **given))

    def abandon(self, refund_id: str, *, person: str, reason: str) -> Status:
        """As `AsyncRefunds.abandon`."""
        return asyncio.run(_Both().abandon(refund_id, person=person, reason=reason))

    def settle(
        self,
        refund_id: str,
        *,
        paid_as: str | None,
        person: str,
        reason: str = "",
        evidence: str = "",
        channel: str = "api",
        origin: Origin | None = None,
        apply: bool = False,
    ) -> Told:
        """As `AsyncRefunds.settle`."""
        said: dict[str, Any] = {"person": person, "reason": reason, "evidence": evidence}
        said |= {"channel": channel, "origin": origin, "apply": apply}
        return asyncio.run(_Both().settle(refund_id, paid_as=paid_as, **said))
