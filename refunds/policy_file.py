"""The policy file: what a user edits, read strictly into one frozen value."""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from refunds.digests import digest
from refunds.errors import BadInput
from refunds.models import Currency, Kind, Name, Sentence, ZeroOrMoreMinor

DEFAULT_POLICY_FILE = Path(__file__).with_name("policy.toml")

_Positive = Annotated[int, Field(strict=True, gt=0)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    why: Annotated[Sentence, Field(min_length=1)]


class KindRule(_Section):
    """Which orders a kind of refund applies to; empty `reasons` means any reason."""

    order_status: Annotated[tuple[Name, ...], Field(min_length=1)]
    reasons: tuple[Name, ...] = ()


class Limits(BaseModel):
    """An amount per currency, in minor units, and why."""

    model_config = ConfigDict(frozen=True)
    why: Annotated[Sentence, Field(min_length=1)]
    amounts_minor: dict[Currency, ZeroOrMoreMinor]

    @model_validator(mode="before")
    @classmethod
    def _currencies_are_keys(cls, section: Any) -> Any:
        if isinstance(section, dict) and "amounts_minor" not in section:
            amounts = {key: value for key, value in section.items() if key != "why"}
            return {"why": section.get("why", ""), "amounts_minor": amounts}
        return section

    def of(self, currency: str) -> int | None:
        """The limit in minor units, or None where the policy names none."""
        return self.amounts_minor.get(currency)


class RiskRule(_Section):
    """When a customer's history is for a person to judge."""

    other_refunds: _Positive
    cancelled_orders: _Positive
    cancelled_percent: Annotated[int, Field(strict=True, ge=0, le=100)]


class ApprovalRule(_Section):
    """Who is asked, and how long the question stands."""

    escalate_after_hours: _Positive
    expire_after_hours: _Positive
    approvers: Name
    escalate_to: Name
    verified_channels: tuple[Name, ...]

    @model_validator(mode="after")
    def _escalation_comes_first(self) -> Self:
        if self.escalate_after_hours >= self.expire_after_hours:
            raise ValueError("escalate_after_hours must be smaller than expire_after_hours")
        return self


class PatienceRule(_Section):
    """How long to keep trying by ourselves."""

    outage_seconds: Annotated[tuple[_Positive, ...], Field(min_length=1)]
    resend_within_hours: _Positive
    settle_within_hours: _Positive


class Policy(BaseModel):
    """One version of the policy file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Name
    cancel: KindRule
    return_: Annotated[KindRule, Field(alias="return")]
    approve_without_a_person: Limits
    two_people_from: Limits
    verified_approver_from: Limits
    goodwill: Limits
    risk: RiskRule
    approval: ApprovalRule
    patience: PatienceRule

    @property
    def full_version(self) -> str:
        """The version with a digest of the content, so that an edit is never mistaken."""
        return f"{self.version}+{digest(self.model_dump(mode='json'))[:12]}"

    def rule_for(self, kind: Kind) -> KindRule:
        """The section for cancellations or for returns."""
        return self.cancel if kind is Kind.CANCEL else self.return_

    def people_needed(self, amount_minor: int, currency: str) -> int:
        """How many different people have to approve: two from the limit on, or unlisted."""
        limit = self.two_people_from.of(currency)
        return 2 if limit is None or amount_minor >= limit else 1

    def verified_needed(self, amount_minor: int, currency: str) -> bool:
        """Whether an approver's identity must have been checked."""
        limit = self.verified_approver_from.of(currency)
        return limit is None or amount_minor >= limit


def parse(text: str, source: str = "policy") -> Policy:
    """The policy in a TOML text. Raises BadInput naming each wrong entry."""
    try:
        return Policy.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{source} is not valid TOML: {error}") from error
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in error.errors()
        )
        raise BadInput(f"{source} is not a valid policy: {wrong}") from error
