"""`make chaos SEED=n`: the whole crash matrix, and how soon two hundred refunds recover."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tests.browser.stack import free_ports
from tests.chaos import chaos_matrix, chaos_recovery, chaos_report
from tests.chaos.chaos_holds import Holds
from tests.chaos.chaos_stack import ChaosStack
from tests.house import services


def main() -> int:
    """Run, print and write the report; 0 when nothing was lost, doubled or stuck."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--victims", nargs="*", choices=list(chaos_matrix.VICTIMS))
    parser.add_argument("--refunds", type=int, default=200, help="in flight for the recovery")
    parser.add_argument("--no-report", action="store_true", help="leave docs/reliability.md alone")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
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
        columns = []
        for victim in options.victims or chaos_matrix.VICTIMS:
            columns.append(
                chaos_matrix.run_column(stack, holds, victim, options.seed, chaos_matrix.BOUNDARIES)
            )
            print(columns[-1], flush=True)
        recovery = chaos_recovery.kill_again_and_again(
            stack, options.seed, refunds=options.refunds, kills=5
        )
        problems = stack.problems()
    print(chaos_matrix.table(columns))
    print(recovery.told())
    print("\n".join(problems) or "refunds verify: all is well")
    if not options.no_report:
        chaos_report.write(options.seed, columns, recovery)
    return 0 if all(column.is_clean for column in columns) and not problems else 1


if __name__ == "__main__":
    sys.exit(main())
