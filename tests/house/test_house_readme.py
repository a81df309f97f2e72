"""What the documents show of the command line, the make targets and the settings exists so."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from refunds.cli.program import program
from refunds.settings import Settings
from tests.house.source import ROOT, files, shown

# Typer brings its own kind of click, which has no types to name here.
_COMMANDS: dict[str, Any] = get_command(program).commands  # type: ignore[attr-defined]

_README = (ROOT / "README.md").read_text(encoding="utf-8")
_DOCUMENTS = [path for path in files(".md") if not shown(path).startswith("sandbox/retail")]
_CONSOLE = re.compile(r"^```console\n(?P<block>.*?)^```", re.MULTILINE | re.DOTALL)
_TARGET = re.compile(r"`make ([a-z]+)|^\$ make ([a-z]+)", re.MULTILINE)
_SETTING = re.compile(r"\bREFUNDS_[A-Z_]+\b")

# Read by the tests and not by the program.
_OF_THE_TESTS = {
    name
    for path in (ROOT / "tests").rglob("*.py")
    if path != Path(__file__)
    for name in _SETTING.findall(path.read_text(encoding="utf-8"))
}


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _console_lines(path: Path) -> list[str]:
    """What a reader is told to type, without the prompt."""
    blocks = "\n".join(match["block"] for match in _CONSOLE.finditer(_text(path)))
    return [line.removeprefix("$ ") for line in blocks.splitlines() if line.startswith("$ ")]


def _table_of_commands() -> list[str]:
    """Each `refunds …` of the README's table, as it stands there."""
    rows = [line for line in _README.splitlines() if line.startswith("| `refunds ")]
    return [
        usage for row in rows for usage in re.findall(r"`(refunds [^`]+)`", row.split(" | ")[0])
    ]


@pytest.mark.parametrize("path", _DOCUMENTS, ids=shown)
def test_every_make_target_that_a_document_names_exists(path: Path) -> None:
    phony = re.search(r"^\.PHONY: (.*)$", _text(ROOT / "Makefile"), re.MULTILINE)
    assert phony is not None
    named = {a or b for a, b in _TARGET.findall(_text(path))}
    assert named <= set(phony[1].split())


@pytest.mark.parametrize("path", _DOCUMENTS, ids=shown)
def test_every_setting_that_a_document_names_exists(path: Path) -> None:
    known = {f"REFUNDS_{name.upper()}" for name in Settings.model_fields} | _OF_THE_TESTS
    named = {name for name in _SETTING.findall(_text(path)) if not name.endswith("_")}
    assert named <= known


@pytest.mark.parametrize("path", _DOCUMENTS, ids=shown)
def test_every_refunds_command_that_a_document_types_can_be_typed(path: Path) -> None:
    for line in _console_lines(path):
        name, *arguments = shlex.split(line, comments=True)
        if name.endswith("refunds"):
            assert arguments[0] in _COMMANDS, line
            _COMMANDS[arguments[0]].make_context(arguments[0], arguments[1:])


def test_the_readme_names_every_command_once() -> None:
    named = [usage.split()[1] for usage in _table_of_commands()]
    assert sorted(named) == sorted(_COMMANDS), "the table in README.md, `The command line`"


@pytest.mark.parametrize("usage", _table_of_commands())
def test_the_readme_shows_a_commands_options_and_arguments(usage: str) -> None:
    _, name, *words = usage.split()
    if subcommands := getattr(_COMMANDS[name], "commands", None):
        assert sorted(words[0].replace("\\", "").split("|")) == sorted(subcommands)
        return
    shown_options = set(re.findall(r"--[a-z-]+", usage))
    parameters = _COMMANDS[name].params
    options = {
        flag: parameter.required
        for parameter in parameters
        if parameter.param_type_name == "option"
        for flag in parameter.opts
    }
    assert shown_options <= set(options)
    assert {flag for flag, is_required in options.items() if is_required} <= shown_options
    arguments = [p for p in parameters if p.param_type_name == "argument" and p.required]
    words = re.sub(r"\[[^\]]*\]|--[a-z-]+ \S+", "", usage).split()[2:]
    assert len(words) == len(arguments)


def test_the_architecture_lists_every_decision() -> None:
    listed = re.findall(r"\(decisions/([^)]+)\)", _text(ROOT / "docs" / "architecture.md"))
    there = sorted(path.name for path in (ROOT / "docs" / "decisions").glob("*.md"))
    assert listed == there
