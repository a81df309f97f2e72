"""How long a test waits for what has to come."""

import time
from collections.abc import Callable
from typing import Any

# Only what hangs takes so long. A machine may be at half of its speed, with four stacks at work on
# its two cores; nothing here is about speed.
PATIENCE_SECONDS = 240.0


def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait for a condition to hold and return its value; fail after the patience."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"still not so: {what}")
