"""How the tests are dealt out to two processes."""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling


class FolderScheduling(LoadScopeScheduling):  # type: ignore[misc]  # xdist ships no types
    """Keeps the tests of one folder in one process, in order: they share servers and ports."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid.partition("::")[0].rpartition("/")[0]
