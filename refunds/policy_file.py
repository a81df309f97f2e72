"""The policy file: what a user edits, read strictly into one frozen value."""

import tomllib
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from refunds.digests import digest
from refunds.errors import BadInput
from refunds.models import Kind, Verdict
from refunds.values import Currency, Name, Percent, Sentence, Signal, ZeroOrMoreMinor

DEFAULT_POLICY_FILE = Path(__file__).with_name("policy.toml")

_Positive = Annotated[int, Field(strict=True, gt=0)]
# A year: no refund is waited for longer, and a slip of the keyboard is caught.
_Hours = Annotated[int, Field(strict=True, gt=0, le=366 * 24)]
# A week between two attempts is already longer than any outage.
_Seconds = Annotated[int, Field(strict=True, gt=0, le=7 * 86_400)]

# A run that writes nothing for 45 s is taken for dead, and its opinion with it.
_AnswerSeconds = Annotated[int, Field(strict=True, gt=0, le=40)]
# A million units of currency for a million tokens: a slip of the keyboard is caught.
_PriceMicro = Annotated[int, Field(strict=True, ge=0, le=10**12)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    why: Annotated[Sentence, Field(min_length=1)]


class KindRule(_Section):
    """Which orders a kind of refund applies to; empty `reasons` means any reason."""

    order_status: Annotated[tuple[Name, ...], Field(min_length=1)]
    reasons: tuple[Name, ...] = ()


class Limits(BaseModel):
    """An amount per currency, in minor units, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")
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


class LevelRule(BaseModel):
    """One level of the escalation chain: who is asked, and for how long before the next one is.

    `block` is a Prefect notification block, as type/name, for the level's card.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    # It is part of keys, so it is short and plain.
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,23}$")]
    audience: Name
    hours: _Hours
    block: Annotated[str, Field(pattern=r"^([a-z0-9-]+/[a-z0-9-]+)?$")] = ""


class ApprovalRule(_Section):
    """Who is asked in turn, and whose word counts."""

    # Nobody waits through more than eight levels.
    levels: Annotated[tuple[LevelRule, ...], Field(min_length=1, max_length=8)]
    verified_channels: tuple[Name, ...]
    registered_only: bool = False

    @model_validator(mode="after")
    def _levels_differ(self) -> Self:
        names = [level.name for level in self.levels]
        if len(set(names)) < len(names):
            raise ValueError("each of the levels needs a name of its own")
        return self


class PartialRule(_Section):
    """Whether an approver may propose a smaller amount, and then be among those who approve it."""

    allowed: bool
    proposer_may_approve: bool


class PatienceRule(_Section):
    """How long to keep trying by ourselves."""

    outage_seconds: Annotated[tuple[_Seconds, ...], Field(min_length=1)]
    resend_within_hours: _Hours
    settle_within_hours: _Hours


class ModelRule(_Section):
    """What a model is asked about, when it is believed, and what asking costs.

    Prices are millionths of `price_currency` for a million tokens.
    """

    asked_about: tuple[Literal[Verdict.APPROVE, Verdict.REVIEW], ...]
    approve_confidence_percent: Percent
    signals_for_a_person: tuple[Signal, ...]
    answer_within_seconds: _AnswerSeconds
    price_currency: Currency
    input_price_micro: _PriceMicro
    output_price_micro: _PriceMicro


class Policy(BaseModel):
    """One version of the policy file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Name
    cancel: KindRule
    return_: Annotated[KindRule, Field(alias="return")]
    approve_without_a_person: Limits
    two_people_from: Limits
    verified_approver_from: Limits
    approver_up_to: Limits = Limits(why="Nobody has a limit by default.", amounts_minor={})
    goodwill: Limits
    risk: RiskRule
    approval: ApprovalRule
    partial: PartialRule = PartialRule(
        why="Only where the policy says so.", allowed=False, proposer_may_approve=False
    )
    patience: PatienceRule
    # Without this section no model is asked about anything. It is then left out of every digest:
    # what was approved under such a policy before there were models stays approved.
    model: Annotated[ModelRule | None, Field(exclude_if=lambda rule: rule is None)] = None

    @cached_property
    def content_digest(self) -> str:
        """The digest of all that the policy says."""
        return digest(self.model_dump(mode="json"))

    @cached_property
    def full_version(self) -> str:
        """The version with a digest of the content, so that an edit is never mistaken."""
        return f"{self.version}+{self.content_digest[:12]}"

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
        entries = tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError, or a number with thousands of digits
        raise BadInput(f"{source} is not valid TOML: {error}") from error
    except RecursionError as error:
        raise BadInput(f"{source} is not a policy: it is nested too deeply") from error
    try:
        return Policy.model_validate(entries)
    except ValidationError as error:
        wrong = "; ".join(f"{_entry(e['loc'])}: {_said(e['msg'])}" for e in error.errors())
        raise BadInput(f"{source} is not a valid policy: {wrong}") from error


def _entry(place: tuple[int | str, ...]) -> str:
    """Where the entry stands in the file, without the names that only the model has."""
    return ".".join(str(part) for part in place if part not in ("amounts_minor", "[key]"))


def _said(message: str) -> str:
    return message.removeprefix("Value error, ").replace("valid tuple", "list in [brackets]")
