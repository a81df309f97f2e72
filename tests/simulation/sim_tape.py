"""Chance on a tape: every choice is a number, so that a story can be replayed and cut."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

# A choice is drawn from this range and then cut to what is to be chosen from.
_RANGE = 1 << 16


class Tape:
    """Numbers in order, then zeros; 0 always means the calmest choice.

    While it records, numbers that are not there yet come from the seed.
    """

    def __init__(self, numbers: Sequence[int] = (), *, seed: int | None = None) -> None:
        self.numbers = list(numbers)
        self._dice = random.Random(seed) if seed is not None else None
        self._position = 0

    def below(self, count: int) -> int:
        """A whole number from 0 up to, and without, `count`."""
        if self._position == len(self.numbers):
            self.numbers.append(self._dice.randrange(_RANGE) if self._dice else 0)
        number = self.numbers[self._position]
        self._position += 1
        return number % count

    def happens(self, percent: int) -> bool:
        """Whether something happens that does so in `percent` of cases; never on a zero."""
        return 0 < self.below(100) <= percent

    def calm(self) -> None:
        """From here on everything goes well."""
        del self.numbers[self._position :]
        self._dice = None


def shrink(numbers: list[int], fails: Callable[[list[int]], bool], tries: int = 400) -> list[int]:
    """A shorter and calmer tape that still fails: chunks are left out, then put to zero."""
    width = max(1, len(numbers) // 2)
    while width and tries > 0:
        start = 0
        while start < len(numbers) and tries > 0:
            for calmer in (
                numbers[:start] + numbers[start + width :],
                numbers[:start]
                + [0] * len(numbers[start : start + width])
                + numbers[start + width :],
            ):
                tries -= 1
                if calmer != numbers and fails(calmer):
                    numbers = calmer
                    break
            else:
                start += width
        width //= 2
    return numbers
