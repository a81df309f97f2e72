"""`refunds up` and `refunds down`."""

from typing import Annotated

import typer


def up(
    background: Annotated[bool, typer.Option(help="Return once it is ready.")] = False,
    sample: Annotated[
        bool, typer.Option(help="Load the sample shop, submit its requests.")
    ] = False,
    exit_when_idle: Annotated[
        bool, typer.Option(help="Stop when nothing is left but to wait for people.")
    ] = False,
) -> None:
    """Start the embedded stack; Ctrl-C stops all of it."""
    from deployments import stack

    raise typer.Exit(stack.up(background=background, sample=sample, exit_when_idle=exit_when_idle))


def down() -> None:
    """Stop the embedded stack of this home."""
    from deployments import stack

    raise typer.Exit(stack.down())
