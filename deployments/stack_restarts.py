"""When a role's process that ended is started again, and when that is hopeless."""

import signal
from collections import deque

# The first restart is at once for a person's eyes; the last leaves time to read the log.
_FIRST_SECONDS = 0.5
_MOST_SECONDS = 8.0
# What dies five times in a minute dies of something that a restart does not mend.
_DEATHS_COUNT = 5
_DEATHS_SECONDS = 60.0
# A person kills a process a few times in a row; what is killed oftener is killed by a machine,
# and starting it all the time would keep that machine from recovering.
_KILLS_AT_ONCE = 5
_MOST_KILLED_SECONDS = 30.0
# A process that lived for so long had room: the next kill is the first one again.
_STEADY_SECONDS = 30.0


class Restarts:
    """One role's deaths, as far as they say anything about the next one.

    Whom somebody killed with SIGKILL did not die of itself: it is started again for ever, at
    longer and longer intervals where it is killed again and again.
    """

    def __init__(self) -> None:
        """Nothing has died yet."""
        self._deaths: deque[float] = deque()
        self._kills = 0
        self._killed_at = self._paused_seconds = 0.0

    def pause_seconds(self, status: int, now: float) -> float | None:
        """How long after this end it is to be started again; None when that is hopeless.

        `status` is negative for a signal's number, `now` any clock's seconds.
        """
        if status == -signal.SIGKILL:
            return self._after_kill(now)
        self._deaths.append(now)
        while now - self._deaths[0] > _DEATHS_SECONDS:
            self._deaths.popleft()
        count = len(self._deaths)
        if count >= _DEATHS_COUNT:
            return None
        return min(_FIRST_SECONDS * 2.0 ** (count - 1), _MOST_SECONDS)

    @property
    def advice(self) -> str:
        """What to know of the last end, where it was one kill of many; else empty."""
        if self._kills <= _KILLS_AT_ONCE:
            return ""
        return (
            f"; it was killed {self._kills} times in a row, as the kernel does where memory runs "
            f"out (`dmesg` tells): give it more; the next try is in {self._paused_seconds:.0f} s"
        )

    def _after_kill(self, now: float) -> float:
        if now - self._killed_at > self._paused_seconds + _STEADY_SECONDS:
            self._kills = 0
        self._kills, self._killed_at = self._kills + 1, now
        doublings = max(0, self._kills - _KILLS_AT_ONCE)
        self._paused_seconds = min(_FIRST_SECONDS * 2.0**doublings, _MOST_KILLED_SECONDS)
        return self._paused_seconds
