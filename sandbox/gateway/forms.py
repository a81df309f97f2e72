"""Form-encoded bodies: which parameters there are and what each may hold."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from starlette.requests import Request

from sandbox.gateway import expansion
from sandbox.gateway.dialect import invalid
from sandbox.records import AMOUNT_LIMIT_MINOR

# Stripe's limits for metadata.
_METADATA_KEYS = 50
_METADATA_KEY_LENGTH = 40
_METADATA_VALUE_LENGTH = 500
# All parameters with full metadata are under a hundred fields.
_FIELDS_LIMIT = 200
# Ids in use are a tenth of it.
_ID_LENGTH = 200

_METADATA_FIELD = re.compile(r"metadata\[([^\[\]]+)\]")
_REASONS = ("duplicate", "fraudulent", "requested_by_customer")
_REFUND_FIELDS = {"charge", "payment_intent", "amount", "currency", "reason"}


@dataclass(frozen=True, slots=True)
class RefundForm:
    """The parameters of a new refund; `amount_minor` None means all that is left."""

    charge: str | None
    payment_intent: str | None
    amount_minor: int | None
    currency: str | None
    reason: str | None
    metadata: Mapping[str, str]
    expand: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MetadataForm:
    """The metadata to merge into a refund's; an empty value removes its key."""

    metadata: Mapping[str, str]
    clear: bool


def parse_refund(request: Request, body: bytes) -> RefundForm:
    """Return a new refund's parameters; raises Refused 400 naming the bad one."""
    fields, metadata = _split(_fields(request, body))
    expand = expansion.asked_for(fields)
    fields = {name: text for name, text in fields.items() if not expansion.is_expansion(name)}
    _check_known(fields, _REFUND_FIELDS)
    charge, intent = _id(fields, "charge"), _id(fields, "payment_intent")
    if charge and intent:
        message = "You may only specify one of these parameters: charge, payment_intent."
        raise invalid(message)
    if not charge and not intent:
        message = "One of these parameters is required: payment_intent or charge."
        raise invalid(message, code="parameter_missing", param="charge")
    return RefundForm(
        charge=charge,
        payment_intent=intent,
        amount_minor=_amount(fields.get("amount")),
        currency=_currency(fields.get("currency")),
        reason=_reason(fields.get("reason")),
        metadata={key: value for key, value in metadata.items() if value},
        expand=expand,
    )


def parse_metadata(request: Request, body: bytes) -> MetadataForm:
    """Return the metadata of an update, the only thing of a refund that can change."""
    fields, metadata = _split(_fields(request, body))
    _check_known(fields, {"metadata"})
    clear = "metadata" in fields
    if clear and fields["metadata"]:
        raise invalid("Invalid object", param="metadata")
    return MetadataForm(metadata=metadata, clear=clear)


def parse_no_fields(request: Request, body: bytes) -> None:
    """Accept an empty form only."""
    fields, metadata = _split(_fields(request, body))
    _check_known({**fields, **{f"metadata[{key}]": "" for key in metadata}}, set())


def _fields(request: Request, body: bytes) -> dict[str, str]:
    if not body:
        return {}
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        message = "Send parameters as application/x-www-form-urlencoded."
        raise invalid(message)
    try:
        pairs = parse_qsl(
            body.decode("utf-8"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=_FIELDS_LIMIT,
        )
    except ValueError as problem:
        message = "The body is not a form in UTF-8, or has too many fields."
        raise invalid(message) from problem
    fields = dict(pairs)
    if len(fields) != len(pairs):
        message = "A parameter is given twice."
        raise invalid(message)
    return fields


def _split(fields: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    plain: dict[str, str] = {}
    metadata: dict[str, str] = {}
    for name in sorted(fields):
        match = _METADATA_FIELD.fullmatch(name)
        if match is None:
            plain[name] = fields[name]
        else:
            metadata[match[1]] = fields[name]
    check_metadata(metadata)
    return plain, metadata


def check_metadata(metadata: Mapping[str, str]) -> None:
    """Raise Refused 400 when metadata exceed Stripe's limits."""
    if len(metadata) > _METADATA_KEYS:
        message = f"Metadata can have up to {_METADATA_KEYS} keys."
        raise invalid(message, param="metadata")
    for key, value in metadata.items():
        if len(key) > _METADATA_KEY_LENGTH:
            message = f"Metadata keys can have up to {_METADATA_KEY_LENGTH} characters."
            raise invalid(message, param="metadata")
        if len(value) > _METADATA_VALUE_LENGTH:
            message = f"Metadata values can have up to {_METADATA_VALUE_LENGTH} characters."
            raise invalid(message, param=f"metadata[{key}]")


def _check_known(fields: Mapping[str, str], known: set[str]) -> None:
    for name in fields:
        if name not in known:
            message = f"Received unknown parameter: {name[:100]}"
            raise invalid(message, code="parameter_unknown", param=name[:100])


def _id(fields: Mapping[str, str], name: str) -> str | None:
    value = fields.get(name)
    if value == "":
        message = f"You passed an empty string for '{name}'."
        raise invalid(message, code="parameter_invalid_empty", param=name)
    if value is not None and len(value) > _ID_LENGTH:
        message = f"Invalid string: at most {_ID_LENGTH} characters."
        raise invalid(message, code="parameter_invalid_string_length", param=name)
    return value


def _amount(text: str | None) -> int | None:
    if text is None:
        return None
    # One digit more than the limit has is enough to tell that a number is too large.
    if not re.fullmatch(r"-?[0-9]{1,14}", text):
        raise invalid("Invalid integer", code="parameter_invalid_integer", param="amount")
    amount_minor = int(text)
    if amount_minor < 1:
        message = "This value must be greater than or equal to 1."
        raise invalid(message, code="parameter_invalid_integer", param="amount")
    if amount_minor > AMOUNT_LIMIT_MINOR:
        message = f"Amount must be no more than {AMOUNT_LIMIT_MINOR}."
        raise invalid(message, code="amount_too_large", param="amount")
    return amount_minor


def _currency(text: str | None) -> str | None:
    if text is not None and not re.fullmatch(r"[A-Za-z]{3}", text):
        message = f"Invalid currency: {text[:20]}"
        raise invalid(message, param="currency")
    return text.upper() if text else None


def _reason(text: str | None) -> str | None:
    if text is not None and text not in _REASONS:
        message = f"Invalid reason: must be one of {', '.join(_REASONS)}"
        raise invalid(message, param="reason")
    return text
