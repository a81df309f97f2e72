"""The evidence bundle: one refund, whole and sealed, checked without ledger, gateway or network.

The file is the canonical JSON of its content and nothing else, so that every byte of it counts:
a space that was added is found as well as an amount that was changed. The seal is a digest, not a
signature: noted elsewhere (`refunds export` prints it) it also tells a bundle that was made anew.
"""

import json
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError
from pydantic_core import to_jsonable_python

from refunds import history_document, policy_file
from refunds.code_version import code_version
from refunds.digests import canonical, digest
from refunds.errors import BadInput
from refunds.history_document import HistoryDocument
from refunds.ledger import Ledger
from refunds.verify import rules
from refunds.verify.dossiers import Dossier, read_one

FORMAT, VERSION = "durable-refunds/evidence", 1

_PARTS = ("row", "effects", "approvals", "decisions", "reservation")


def made(ledger: Ledger, refund_id: str) -> bytes:
    """The bundle of a refund. Raises UnknownRefund."""
    document = history_document.of(ledger, refund_id)
    with ledger.reading() as connection:
        dossier = read_one(connection, refund_id)
    content = {
        "format": FORMAT,
        "version": VERSION,
        "refund_id": refund_id,
        "exported_at": ledger.clock().isoformat(),
        "code_version": code_version(),
        "history": document.plain(),
        "ledger": {name: to_jsonable_python(getattr(dossier, name)) for name in _PARTS},
        "gateway_ids": _gateway_ids(dossier),
    }
    return _written({**content, "seal": digest(content)})


def seal_of(content: bytes) -> str:
    """The seal that a bundle carries. Raises BadInput for what is no bundle."""
    return str(_read(content, "the bundle")["seal"])


def problems(content: bytes, source: str) -> list[str]:
    """Everything that is wrong with a bundle, a sentence each. Raises BadInput for what is none."""
    return list(_problems(_read(content, source), content))


def _problems(bundle: dict[str, Any], content: bytes) -> Iterator[str]:
    if _written(bundle) != content:
        yield "its bytes are not as they were written"
    if digest({name: part for name, part in bundle.items() if name != "seal"}) != bundle["seal"]:
        yield "its seal is broken: something was changed after it was exported"
    try:
        document = HistoryDocument.model_validate(bundle["history"])
        history_document.checked(document, "its history")
        yield from _of_content(bundle, document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        yield f"its history is none: {first['loc']}: {first['msg']}"
    except BadInput as error:
        yield str(error)
    except (KeyError, TypeError, AttributeError) as error:
        yield f"a part is missing or of another kind: {error!r}"


def _of_content(bundle: dict[str, Any], document: HistoryDocument) -> Iterator[str]:
    """What the parts say of each other: the same rules as those of `refunds verify`."""
    parts = {name: bundle["ledger"][name] for name in _PARTS}
    dossier = Dossier(**{**parts, "events": document.plain_events()})
    if not document.refund_id == dossier.refund_id == bundle["refund_id"]:
        yield "its parts are of different refunds"
    yield from rules.broken(dossier)
    if bundle["gateway_ids"] != _gateway_ids(dossier):
        yield "the gateway's ids are not those of its effects"
    for version, text in document.policies.items():
        if policy_file.parse(text, version).full_version != version:
            yield f"the text of policy {version} is another one"


def _gateway_ids(dossier: Dossier) -> dict[str, str]:
    """The gateway's own id of each payment, by the effect's key."""
    return {
        effect["key"]: effect["response"]["id"]
        for effect in dossier.effects
        if effect["system"] == "gateway" and (effect["response"] or {}).get("id")
    }


def _read(content: bytes, source: str) -> dict[str, Any]:
    try:
        bundle = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{source} is not JSON: {error}") from error
    is_bundle = isinstance(bundle, dict) and bundle.get("format") == FORMAT
    if not is_bundle or bundle.get("version") != VERSION or "seal" not in bundle:
        raise BadInput(f"{source} is not an evidence bundle of version {VERSION}")
    return dict(bundle)


def _written(bundle: dict[str, Any]) -> bytes:
    try:
        return canonical(bundle).encode() + b"\n"
    except (TypeError, UnicodeEncodeError) as error:
        raise BadInput(f"the bundle holds what no bundle can: {error}") from error
