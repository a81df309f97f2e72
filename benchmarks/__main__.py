"""Measure and write down: `python -m benchmarks [PART…]`, all parts by default.

Parts are `batch`, `latency`, `recovery`, `waiting` and `inbox`. Each keeps what it found in
benchmarks/results.json with the machine and its load, and docs/performance.md is written from it.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import batch, inbox, latency, machine, recovery, report, waiting

_RESULTS = Path(__file__).with_name("results.json")
_DOCUMENT = Path(__file__).parents[1] / "docs" / "performance.md"

_KINDS = ("postgresql", "sqlite")


def main() -> None:
    """Run the parts that were asked for; what the others found before stays."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", help="batch, latency, recovery, waiting, inbox")
    parser.add_argument("--kinds", nargs="+", choices=_KINDS, default=_KINDS)
    parser.add_argument("--sizes", nargs="+", type=int, default=[1_000, 10_000])
    parser.add_argument("--waiting", nargs="+", type=int, default=[0, 1_000, 10_000])
    options = parser.parse_args()
    parts: dict[str, Callable[[str], Any]] = {
        "batch": lambda kind: batch.measure(kind, options.sizes),
        "latency": latency.measure,
        "recovery": recovery.measure,
        "waiting": lambda kind: waiting.measure(kind, options.waiting),
        "inbox": lambda kind: inbox.measure(kind, [count for count in options.waiting if count]),
    }
    for part in options.parts or parts:
        for kind in options.kinds:
            _keep(f"{part} {kind}", {"machine": machine.described(), **parts[part](kind)})


def _keep(name: str, found: dict[str, Any]) -> None:
    """Keep a result at once: the next part may fail."""
    print(json.dumps({name: found}))
    kept = json.loads(_RESULTS.read_text()) if _RESULTS.exists() else {}
    kept[name] = found
    _RESULTS.write_text(json.dumps(dict(sorted(kept.items())), indent=1) + "\n")
    _DOCUMENT.write_text(report.written(kept), encoding="utf-8")


if __name__ == "__main__":
    main()
