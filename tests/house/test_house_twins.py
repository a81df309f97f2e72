"""The Python API is one API, with `await` and without."""

import inspect

import pytest

from refunds.api import AsyncRefunds, Refunds


def _public(kind: type) -> dict[str, inspect.Signature]:
    found = inspect.getmembers(kind, inspect.isfunction)
    return {name: inspect.signature(f) for name, f in found if not name.startswith("_")}


@pytest.mark.parametrize("name", _public(AsyncRefunds))
def test_each_call_has_a_twin_without_await_that_takes_the_same(name: str) -> None:
    ours, theirs = _public(AsyncRefunds)[name], _public(Refunds)[name]
    assert list(theirs.parameters.values()) == list(ours.parameters.values())
    assert getattr(Refunds, name).__doc__ == f"As `AsyncRefunds.{name}`."
