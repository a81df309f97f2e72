"""A bundle proves one refund offline, and any edited byte of it is found."""

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refunds.digests import canonical, digest
from refunds.errors import BadInput
from refunds.verify import bundles
from tests.replay import paths
from tests.replay.rehearsal import Rehearsal


@pytest.fixture(scope="module")
def kept() -> dict[str, bytes]:
    """Bundles by path, made once."""
    return {}


@pytest.fixture
def bundle(world: Rehearsal, kept: dict[str, bytes]) -> bytes:
    if "review" not in kept:
        request = paths.review_approved(world)
        kept["review"] = bundles.made(world.ledger, request.refund_id)
    return kept["review"]


def is_found(content: bytes) -> bool:
    """Whether an edit is noticed: named as a problem, or no longer a bundle at all."""
    try:
        return bool(bundles.problems(content, "edited"))
    except BadInput:
        return True


@pytest.mark.parametrize("path", list(paths.PATHS))
def test_the_bundle_of_each_path_verifies(world: Rehearsal, path: str) -> None:
    request = paths.PATHS[path](world)
    assert bundles.problems(bundles.made(world.ledger, request.refund_id), "it") == []


def test_a_bundle_holds_what_an_auditor_asks_for(bundle: bytes) -> None:
    content = json.loads(bundle)
    assert content["ledger"]["decisions"][0]["person"] == "lea"
    assert next(iter(content["gateway_ids"].values())).startswith("re_")
    assert content["ledger"]["approvals"][0]["digest"]
    assert content["history"]["policies"]


def test_every_byte_of_a_bundle_counts(bundle: bytes) -> None:
    """Each kind of place in the file, and a seeded sample of all places."""
    places = {bundle.index(kind) for kind in (b"{", b"}", b"[", b":", b",", b'"', b"\n", b"0")}
    for part in (b'"seal"', b'"amount_minor"', b'"previous_digest"', b'"policies"', b'"person"'):
        start = bundle.index(part)
        places |= set(range(start, start + len(part) + 6))
    places |= set(random.Random(7).sample(range(len(bundle)), 400))
    missed = [
        place
        for place in sorted(places)
        if not is_found(bundle[:place] + bytes([bundle[place] ^ 1]) + bundle[place + 1 :])
    ]
    assert missed == []


@pytest.fixture
def edited_bundle(bundle: bytes) -> bytes:
    return bundle


def test_any_edit_of_a_bundle_is_found(edited_bundle: bytes) -> None:
    size = len(edited_bundle)

    @settings(max_examples=150, deadline=None)
    @given(st.integers(0, size - 1), st.integers(0, 3), st.binary(max_size=3))
    def holds(place: int, removed: int, added: bytes) -> None:
        edited = edited_bundle[:place] + added + edited_bundle[place + removed :]
        assert edited == edited_bundle or is_found(edited)

    holds()


FORGED: dict[str, Any] = {
    "the amount": lambda b: b["ledger"]["row"].update(amount_minor=1),
    "who decided": lambda b: b["ledger"]["decisions"].clear(),
    "the policy": lambda b: b["history"]["policies"].update(
        {v: t.replace(" = 1", " = 2") for v, t in b["history"]["policies"].items()}
    ),
    "an event": lambda b: b["history"]["events"].pop(3),
    "the gateway's id": lambda b: b["gateway_ids"].update({"rf:issue_refund": "re_other"}),
    "another refund": lambda b: b.update(refund_id="rf_other"),
}


@pytest.mark.parametrize("what", list(FORGED))
def test_a_new_seal_does_not_hide_what_the_parts_say_of_each_other(
    bundle: bytes, what: str
) -> None:
    content = json.loads(bundle)
    FORGED[what](content)
    content["seal"] = digest({k: v for k, v in content.items() if k != "seal"})
    assert bundles.problems(canonical(content).encode() + b"\n", "forged") != []


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b'{"format": 1}', b"[" * 90_000])
def test_what_is_no_bundle_is_bad_input(content: bytes) -> None:
    with pytest.raises(BadInput):
        bundles.problems(content, "it")
