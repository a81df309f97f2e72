"""When a role's process that ended is started again, and when that is hopeless."""

import signal
from collections import deque

# The first restart is at once for a person's eyes; the last leaves time to read the log.
_FIRST_SECONDS = 0.5
_MOST_SECONDS = 8.0
# What dies five times in a minute dies of something that a restart does not mend.
_DEATHS_COUNT = 5
_DEATHS_SECONDS = 60.0


class Restarts:
    """One role's deaths, as far as they say anything about the next one.

    Whom somebody killed with SIGKILL did not die of itself: nothing is wrong with it.
    """

    def __init__(self) -> None:
        """Nothing has died yet."""
        self._deaths: deque[float] = deque()

    def pause_seconds(self, status: int, now: float) -> float | None:
        """How long after this end it is to be started again; None when that is hopeless.

        `status` is negative for a signal's number, `now` any clock's seconds.
        """
        if status == -signal.SIGKILL:
            return _FIRST_SECONDS
        self._deaths.append(now)
        while now - self._deaths[0] > _DEATHS_SECONDS:
            self._deaths.popleft()
        count = len(self._deaths)
        if count >= _DEATHS_COUNT:
            return None
        return min(_FIRST_SECONDS * 2.0 ** (count - 1), _MOST_SECONDS)
