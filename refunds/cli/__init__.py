"""The command line: `refunds`."""

import sys


def main() -> None:
    """Run one command; exits 0 when it was done, 1 when it failed, 2 for bad input."""
    from refunds.cli.program import program

    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a customer's name still shows the rest.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a text stream
    program(prog_name="refunds")


__all__ = ["main"]
