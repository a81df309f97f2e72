"""The line of a batch: which chunks are under way, and how far it has got without a gap."""

import asyncio

from refunds.ledger.batches import Batch
from tasks.batch.chunk import Chunk

# Large enough that a step's own cost vanishes among its refunds, small enough that a chunk is
# through in some ten seconds and a few megabytes.
CHUNK_SIZE = 500

# One waits for the ledger while the other waits for the systems; a third found nothing to fill.
CHUNKS_AT_ONCE = 2


class Line:
    """The chunks of one run of a batch. Tasks get it whole and change it in place."""

    def __init__(self, batch: Batch) -> None:
        """A batch whose lease this run has."""
        self.batch = batch
        # Held by the chunk that is about to be taken until its money is set aside.
        self.turn = asyncio.Lock()
        self.taken_to = ""
        self._under_way: list[Chunk] = []
        self._finished: set[str] = set()

    def take(self, chunk: Chunk) -> Chunk:
        """The chunk after all others is under way."""
        self.taken_to = chunk.last_key
        self._under_way.append(chunk)
        return chunk

    def finished(self, chunk: Chunk) -> str | None:
        """The key up to which all is through with this chunk; None while an earlier one is not."""
        self._finished.add(chunk.last_key)
        cursor = None
        while self._under_way and self._under_way[0].last_key in self._finished:
            cursor = self._under_way.pop(0).last_key
        return cursor

    def __repr__(self) -> str:
        """Short: Prefect shows it as a task's input."""
        return f"Line({self.batch.batch_id}, taken to {self.taken_to!r})"
