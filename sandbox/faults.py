"""The faults that are switched on: which request takes which, counted on disk."""

import hashlib
import sqlite3
from collections.abc import Collection
from fnmatch import fnmatchcase
from typing import Any

from sandbox.answers import Answer, Refused
from sandbox.fault_rules import GATEWAY_KINDS, RULE, Phase, Rule, RuleSet
from sandbox.records import error

WEBHOOK = "webhook"
REFUND_ENDPOINT = "POST /gateway/v1/refunds"
# A fraction of 64 random bits, compared as integers so that no rounding moves a draw.
_DRAW_RANGE = 2**64


class Faults:
    """The current rules, first match first.

    A draw depends only on the seed, the rule, what is asked and how often it was asked, so the
    same requests meet the same faults in whatever order they arrive.
    """

    def __init__(self) -> None:
        self._rules: list[Rule] = []
        self._seed = 0
        self._endpoints: Collection[str] = ()

    def serve(self, endpoints: Collection[str]) -> None:
        """Name the endpoints that rules can be about."""
        self._endpoints = endpoints

    @property
    def armed(self) -> bool:
        """Whether any rule is set."""
        return bool(self._rules)

    def load(self, reader: sqlite3.Connection) -> None:
        """Take up the rules that an earlier process left on disk."""
        rows = reader.execute("SELECT rule FROM fault_rules ORDER BY position").fetchall()
        self._rules = [RULE.validate_json(row["rule"]) for row in rows]
        row = reader.execute("SELECT seed FROM fault_seed").fetchone()
        self._seed = row["seed"] if row else 0

    def replace(self, tx: sqlite3.Connection, rule_set: RuleSet) -> None:
        """Replace all rules; 422 when one is about nothing that exists."""
        for index, rule in enumerate(rule_set.rules):
            problem = self._problem(rule)
            if problem:
                raise Refused(error(422, "invalid_rule", f"rules.{index}: {problem}"))
        tx.execute("DELETE FROM fault_rules")
        tx.execute("DELETE FROM fault_draws")
        tx.execute("INSERT OR REPLACE INTO fault_seed VALUES (1, ?)", (rule_set.seed,))
        tx.executemany(
            "INSERT INTO fault_rules (position, rule, remaining) VALUES (?, ?, ?)",
            [(i, rule.model_dump_json(), rule.times) for i, rule in enumerate(rule_set.rules)],
        )
        self._rules, self._seed = list(rule_set.rules), rule_set.seed

    def shown(self, reader: sqlite3.Connection) -> Answer:
        """Return the rules with how often each fired and may still fire."""
        rows = reader.execute("SELECT * FROM fault_rules ORDER BY position").fetchall()
        rules: list[dict[str, Any]] = [
            {
                **RULE.validate_json(row["rule"]).model_dump(mode="json"),
                "remaining": row["remaining"],
                "fired": row["fired"],
            }
            for row in rows
        ]
        return Answer.of(200, {"seed": self._seed, "rules": rules})

    def take(
        self,
        tx: sqlite3.Connection,
        phase: Phase,
        *,
        endpoint: str,
        subject: str,
        refund_id: str | None,
        event_type: str | None = None,
    ) -> Rule | None:
        """Return the first rule of `phase` that applies, and count it."""
        for position, rule in enumerate(self._rules):
            if rule.phase != phase or not fnmatchcase(endpoint, rule.endpoint):
                continue
            if rule.match.refund_id not in (None, refund_id):
                continue
            if rule.match.event_type not in (None, event_type):
                continue
            if self._spend(tx, position, rule, f"{endpoint} {subject}"):
                return rule
        return None

    def _spend(self, tx: sqlite3.Connection, position: int, rule: Rule, subject: str) -> bool:
        row = tx.execute(
            "SELECT remaining FROM fault_rules WHERE position = ?", (position,)
        ).fetchone()
        if row["remaining"] == 0:
            return False
        if rule.probability < 1 and not self._drawn(tx, position, rule, subject):
            return False
        tx.execute(
            "UPDATE fault_rules SET fired = fired + 1, remaining = remaining - 1"
            " WHERE position = ?",
            (position,),
        )
        return True

    def _drawn(self, tx: sqlite3.Connection, position: int, rule: Rule, subject: str) -> bool:
        tx.execute(
            "INSERT INTO fault_draws VALUES (?, ?, 1)"
            " ON CONFLICT (position, subject) DO UPDATE SET draws = draws + 1",
            (position, subject),
        )
        draws = tx.execute(
            "SELECT draws FROM fault_draws WHERE position = ? AND subject = ?", (position, subject)
        ).fetchone()["draws"]
        seed = f"{self._seed}|{position}|{subject}|{draws}".encode()
        drawn = int.from_bytes(hashlib.sha256(seed).digest()[:8])
        return drawn < int(rule.probability * _DRAW_RANGE)

    def _problem(self, rule: Rule) -> str | None:
        if (rule.endpoint == WEBHOOK) != (rule.phase == "webhook"):
            return f"webhook kinds belong to the endpoint '{WEBHOOK}', and only they do"
        if isinstance(rule, GATEWAY_KINDS) and rule.endpoint != REFUND_ENDPOINT:
            return f"this kind belongs to the endpoint '{REFUND_ENDPOINT}'"
        if rule.match.event_type is not None and rule.phase != "webhook":
            return "match.event_type is for webhooks"
        named = (*self._endpoints, WEBHOOK)
        if not any(fnmatchcase(endpoint, rule.endpoint) for endpoint in named):
            return "no endpoint has this name; write 'METHOD /path/{id}', '*' stands for any text"
        return None
