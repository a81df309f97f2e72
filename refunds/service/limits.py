"""How often somebody may knock, over all processes of the service."""

import math
import threading
import time
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus

from refunds.ledger.access import rates
from refunds.ledger.access.rates import Rate
from refunds.service.problems import Refused
from tasks import books


@dataclass
class Limit:
    """One kind of knock, limited for each who knocks.

    A process takes `handful` at a time from the ledger's bucket, so that not every request is a
    write; the buckets are shared, and a handful that is left over is lost.
    """

    kind: str
    rate: Rate
    handful: int = 1
    _left: dict[str, int] = field(default_factory=dict)
    # Until when somebody is turned away without asking the ledger again, by the process's clock.
    _shut: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def spend(self, who: str) -> None:
        """Count one. Raises Refused with 429 and how long to wait."""
        name = f"{self.kind}:{who}"[:160]
        with self._lock:
            if self._left.get(name, 0) > 0:
                self._left[name] -= 1
                return
            still_shut = self._shut.get(name, 0.0) - time.monotonic()
        if still_shut > 0:
            raise _too_often(still_shut)
        wait = rates.take(books.ledger(), name, self.rate, self.handful)
        with self._lock:
            for known in (self._left, self._shut):
                if len(known) >= _MOST_NAMES:
                    known.clear()
            if wait is None:
                self._left[name] = self._left.get(name, 0) + self.handful - 1
                return
            self._shut[name] = time.monotonic() + wait.total_seconds()
        raise _too_often(wait.total_seconds())

    def forget(self) -> None:
        """Drop what this process has in hand."""
        with self._lock:
            self._left.clear()
            self._shut.clear()


def _too_often(wait_seconds: float) -> Refused:
    seconds = math.ceil(wait_seconds)
    return Refused(
        HTTPStatus.TOO_MANY_REQUESTS,
        "too-often",
        f"too many requests; the next one is taken in {seconds} s",
        "Wait as long as Retry-After says, then send it again.",
        {"Retry-After": str(seconds)},
    )


# More who knock at once than a company has; strangers must not fill the memory.
_MOST_NAMES = 10_000

# A support tool sends a few a second; a hundred at once is a page of a batch.
machines = Limit("key", Rate(burst=200, every=timedelta(milliseconds=20)), handful=20)

# Whoever has no key has a typing error or bad intentions; neither needs a hundred tries a minute.
strangers = Limit("stranger", Rate(burst=60, every=timedelta(seconds=1)))

# A person mistypes a password a few times; ten tries and two more a minute are no attack.
one_account_from_one_place = Limit("account", Rate(burst=10, every=timedelta(seconds=30)))

# A whole office signs in through one address in the morning.
one_place = Limit("place", Rate(burst=60, every=timedelta(seconds=2)))

# A person at a page clicks; a script that has stolen a session does not get far.
people = Limit("person", Rate(burst=120, every=timedelta(milliseconds=250)), handful=10)

ALL = (machines, strangers, one_account_from_one_place, one_place, people)
