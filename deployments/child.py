"""Runs a module as `python -m` does, and ends it when the stack's supervisor is gone.

`python -m deployments.child --lifeline FD [--linger SECONDS] MODULE [ARGUMENT…]`

The lifeline is a pipe of which only the supervisor has the writing end: however it dies,
even by SIGKILL, the system closes that end, and reading here returns. The module runs in
this very process, so that the process's number, signals and exit code are the module's.
"""

import argparse
import os
import runpy
import signal
import sys
import threading
import time

# A worker that was told to stop waits for its runs; a second signal makes it hand them
# back, which takes a few requests.
_HURRY_SECONDS = 2.0
# Handing back and closing take about a second; the rest is for a loaded machine.
_KILL_SECONDS = 6.0


def end_with_supervisor(lifeline: int, linger_seconds: float) -> None:
    """End this process some time after the lifeline has closed: ask, ask again, kill."""

    def watch() -> None:
        os.read(lifeline, 1)
        time.sleep(linger_seconds)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_HURRY_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_KILL_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m deployments.child", description=__doc__)
    parser.add_argument("--lifeline", type=int, required=True, help="descriptor of the pipe")
    parser.add_argument("--linger", type=float, default=0.0, help="seconds to go on before ending")
    parser.add_argument("module")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    # It is for this process alone: what the module starts has its own ways to end.
    os.set_inheritable(options.lifeline, False)
    end_with_supervisor(options.lifeline, options.linger)
    sys.argv = [options.module, *options.arguments]
    runpy.run_module(options.module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
