"""A refund that a batch carries is the refund that the single chain would have carried."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from refunds import history_document
from refunds.intake import read_requests
from refunds.ledger import migrate, schema
from refunds.ledger.engine import dispose_engines
from refunds.replay import Stage, replay
from sandbox.process import SandboxProcess
from tasks import http
from tests.batch.batch_world import World, at_home
from tests.house.patience import PATIENCE_SECONDS

RETAIL = Path(__file__).parents[2] / "sandbox" / "retail"
REQUESTS = read_requests((RETAIL / "refund_requests.jsonl").read_bytes(), "refund_requests.jsonl")

# What another system calls a thing depends on who came first.
_NUMBERED = re.compile(r"\b(re|msg|case|label|hold|coupon)_\d+\b")

# The batch's own doing: a run for each refund that needs a person.
_OF_THE_LANE = ("run.launched",)


@contextmanager
def fresh_world(home: Path) -> Iterator[World]:
    """The real shop, nobody's refunds."""
    url = f"sqlite:///{home / 'ledger.db'}"
    home.mkdir()
    migrate(url)
    with (
        SandboxProcess(home / "sandbox") as process,
        at_home(url, process.url, process.shop_database),
    ):
        world = World(process.url)
        world.shop_has(_rows("customers"), _rows("orders"))
        yield world
        world.sandbox.close()
        dispose_engines()


def found_in(world: World) -> dict[str, dict[str, Any]]:
    """All that the ledger and the outside world have of each refund, without times and ids."""
    found: dict[str, dict[str, Any]] = {}
    with world.ledger.reading() as connection:
        for row in connection.execute(sa.select(schema.refunds)).mappings():
            names = ("request_digest", "state", "outcome", "verdict", "reasons", "attention")
            found[row["refund_id"]] = {name: row[name] for name in names} | {
                "effects": {},
                "events": [],
                "waits": [],
            }
        for row in connection.execute(sa.select(schema.effects)).mappings():
            names = ("step", "system", "request", "state", "detail", "sends")
            kept = {name: row[name] for name in names}
            if not _NUMBERED.search(json.dumps(row["request"])):
                kept["request_digest"] = row["request_digest"]
            found[row["refund_id"]]["effects"][row["key"]] = _unnumbered(kept)
        query = sa.select(schema.history).order_by(schema.history.c.sequence)
        for row in connection.execute(query).mappings():
            if row["event"] not in _OF_THE_LANE and not row["event"].startswith("step."):
                found[row["refund_id"]]["events"].append(row["event"])
        listed: list[tuple[sa.Table, tuple[str, ...]]] = [
            (schema.reservations, ("charge_id", "amount_minor", "item_ids", "state")),
            (schema.approvals, ("approval_id", "round", "digest", "facts", "status")),
            (schema.waits, ("name", "reason", "ended_at")),
        ]
        for table, columns in listed:
            for row in connection.execute(sa.select(table)).mappings():
                kept = {name: row[name] for name in columns}
                found[row["refund_id"]].setdefault(table.name, []).append(kept)
    for act in world.acts():
        found[act["refund_id"]].setdefault("acts", []).append(act["key"])
    for refund in found.values():
        refund["acts"] = sorted(refund.get("acts", []))
    return found


@pytest.mark.slow
def test_the_real_requests_come_to_the_same_in_both_lanes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Three hundred chains in one loop keep each other from hearing an answer in time.
    monkeypatch.setattr(http, "_TIMEOUT", httpx.Timeout(PATIENCE_SECONDS))
    with fresh_world(tmp_path / "single") as world:
        asleep = world.carry_singly(REQUESTS)
        singly = found_in(world)
    with fresh_world(tmp_path / "batch") as world:
        prefect_runs = world.carry(world.take_together(REQUESTS))
        together = found_in(world)
        assert world.broken() == []
        for request in REQUESTS[::10]:
            performance = replay(history_document.of(world.ledger, request.refund_id), Stage())
            assert performance.is_same, request.refund_id

    assert together.keys() == singly.keys()
    for refund_id, single in singly.items():
        assert together[refund_id] == single, refund_id
    assert {key[0]: sleeper.key for key, sleeper in prefect_runs.created.items()} == asleep


def _unnumbered(value: Any) -> Any:
    return json.loads(_NUMBERED.sub(r"\1_n", json.dumps(value)))


def _rows(kind: str) -> list[dict[str, Any]]:
    text = (RETAIL / f"{kind}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]
