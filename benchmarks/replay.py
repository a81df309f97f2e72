"""How long does it take to replay 1,000 histories? Run with the golden ones, over and over.

.venv/bin/python benchmarks/replay.py [COUNT]
"""

import itertools
import sys
import time
from pathlib import Path

from refunds import history_document
from refunds.replay import Stage, replay

GOLDEN = Path(__file__).parents[1] / "tests" / "golden"


def main() -> None:
    """Read, check and replay COUNT histories as `refunds replay DIR` does; print how long."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000
    kept = [path.read_bytes() for path in sorted(GOLDEN.glob("v*/*.json"))]
    stage, steps = Stage(), 0
    began = time.perf_counter()
    for content in itertools.islice(itertools.cycle(kept), count):
        performance = replay(history_document.read(content, "golden"), stage)
        assert performance.is_same, performance.difference
        steps += len(performance.commands)
    seconds = time.perf_counter() - began
    print(
        f"{count} histories with {steps} steps in {seconds:.1f} s, {count / seconds:.0f} a second"
    )


if __name__ == "__main__":
    main()
