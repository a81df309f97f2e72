"""`make chaos SEED=n`: the crash matrix, how soon refunds recover, and a host that is lost."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.browser.stack import free_ports
from tests.chaos import chaos_bursts, chaos_hosts, chaos_matrix, chaos_recovery, chaos_report
from tests.chaos.chaos_batches import BATCH_BOUNDARIES
from tests.chaos.chaos_boundaries import BOUNDARIES, Boundary
from tests.chaos.chaos_bursts import BURST_BOUNDARIES
from tests.chaos.chaos_holds import Holds
from tests.chaos.chaos_matrix import Column
from tests.chaos.chaos_report import Findings
from tests.chaos.chaos_stack import ChaosStack
from tests.house import services

_PARTS = ("refunds", "batches", "bursts", "recovery", "hosts")
# As often as the worker is to be survived in a row.
_KILLS = 5


def main() -> int:
    """Run, print and write the report; 0 when nothing was lost, doubled or stuck."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--parts", nargs="*", choices=_PARTS, default=_PARTS)
    parser.add_argument("--victims", nargs="*", choices=list(chaos_matrix.VICTIMS))
    parser.add_argument("--refunds", type=int, default=200, help="in flight for the recovery")
    parser.add_argument("--no-report", action="store_true", help="leave docs/reliability.md alone")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    found = Findings(options.seed)
    with (
        tempfile.TemporaryDirectory(prefix="refunds-chaos-") as home,
        services.postgresql() as server,
        services.fresh_database(server) as ledger_url,
        ChaosStack(Path(home), free_ports(), ledger_url).running() as running,
        running.entered() as stack,
        stack.database() as connection,
    ):
        holds = Holds(connection)
        holds.install()
        _find(stack, holds, found, options)
        found.problems = stack.problems()
    print(found.told())
    if not options.no_report:
        chaos_report.write(found)
    return 0 if found.is_clean else 1


def _find(stack: ChaosStack, holds: Holds, found: Findings, options: argparse.Namespace) -> None:
    def strike(
        run_column: Callable[..., Column], boundaries: tuple[Boundary, ...], columns: list[Column]
    ) -> None:
        for victim in options.victims or chaos_matrix.VICTIMS:
            columns.append(run_column(stack, holds, victim, options.seed, boundaries))
            print(columns[-1], flush=True)

    if "batches" in options.parts:
        strike(chaos_matrix.run_column, BATCH_BOUNDARIES, found.batch_columns)
    if "bursts" in options.parts:
        strike(chaos_bursts.run_column, BURST_BOUNDARIES, found.burst_columns)
    if "refunds" in options.parts:
        strike(chaos_matrix.run_column, BOUNDARIES, found.columns)
    stack.faults([])
    how_many = {"refunds": options.refunds, "kills": _KILLS}
    if "recovery" in options.parts:
        found.recoveries.append(chaos_recovery.of_runs(stack, options.seed, **how_many))
        print(found.recoveries[-1], flush=True)
        found.recoveries += chaos_recovery.of_a_batch(stack, options.seed, **how_many)
        print(found.recoveries[1:], flush=True)
    if "hosts" in options.parts and chaos_hosts.can_be_named():
        found.taken_over = chaos_hosts.take_over(stack, holds, f"rf-{options.seed}-host")
        print(chaos_hosts.told(found.taken_over), flush=True)


if __name__ == "__main__":
    sys.exit(main())
