"""Idempotency keys: what was answered under each, for as long as the key is remembered."""

import hashlib
import sqlite3

from sandbox.answers import Answer
from sandbox.clock import Clock, to_ms

# Stripe's limit, used for all systems.
KEY_LENGTH = 255
_REPLAYED = {"Idempotent-Replayed": "true"}


def digest_of(*parts: bytes) -> str:
    """Return one digest of what was asked, unambiguous about where each part ends."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8))
        digest.update(part)
    return digest.hexdigest()


class KeyReused(Exception):
    """The key was first used for another ask."""


class Keys:
    """The answers on disk, forgotten `retention_seconds` after they were given."""

    def __init__(self, clock: Clock, retention_seconds: int) -> None:
        self._clock = clock
        self._retention_ms = retention_seconds * 1_000

    def count_arrival(self, tx: sqlite3.Connection, system: str, key: str) -> None:
        """Count one more request under `key`, whatever becomes of it."""
        tx.execute(
            "INSERT INTO arrivals VALUES (?, ?, 1)"
            " ON CONFLICT (system, key) DO UPDATE SET sends = sends + 1",
            (system, key),
        )

    def replay(self, tx: sqlite3.Connection, system: str, key: str, digest: str) -> Answer | None:
        """Return the stored answer, or None for a new or forgotten key.

        Raises KeyReused when the key was used with another digest.
        """
        row = tx.execute(
            "SELECT digest, status, body, created_ms FROM keys WHERE system = ? AND key = ?",
            (system, key),
        ).fetchone()
        if row is None:
            return None
        if row["created_ms"] <= to_ms(self._clock()) - self._retention_ms:
            tx.execute("DELETE FROM keys WHERE system = ? AND key = ?", (system, key))
            return None
        if row["digest"] != digest:
            raise KeyReused(key)
        return Answer(row["status"], row["body"], _REPLAYED)

    def remember(
        self, tx: sqlite3.Connection, system: str, key: str, digest: str, answer: Answer
    ) -> None:
        """Store `answer` as the one that later asks under `key` get."""
        tx.execute(
            "INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?)",
            (system, key, digest, answer.status, answer.body, to_ms(self._clock())),
        )
