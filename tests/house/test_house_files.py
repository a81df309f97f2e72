"""What every file of the repository keeps to."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from refunds.models import Outcome, State
from tests.house.source import PACKAGES, ROOT, files, modules, pyproject, shown

# Twice the length that a file grows to before it has two subjects.
_MOST_LINES = 400

# Put together here, so that this file does not name them itself.
_REGISTRY_HOSTS = tuple(
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("debian", "org"),
    )
)
_MACHINE_PATH = re.compile("(?<![A-Za-z0-9_.~-])/" + "(?:work|root)/")
_NOQA = re.compile(r"#\s*noqa(?P<codes>:\s*[A-Z]+[0-9]+(?:,\s*[A-Z]+[0-9]+)*)?(?P<reason>.*)$")
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)\s]+)\)|!\[[^\]]*\]\((?P<image>[^)\s]+)\)")
_CODE_BLOCK = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
_DOCUMENTS = [path for path in files(".md") if not shown(path).startswith("sandbox/retail")]


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8", errors="replace")


def test_no_file_names_a_registry_host() -> None:
    found = [
        f"{shown(path)}: {host}"
        for path in files()
        for host in _REGISTRY_HOSTS
        if re.search(rf"\b{re.escape(host)}\b", _text(path))
    ]
    assert not found, found


def test_no_file_names_a_path_of_somebodys_machine() -> None:
    found = [
        f"{shown(path)}: {match.group()}"
        for path in files()
        for match in _MACHINE_PATH.finditer(_text(path))
    ]
    assert not found, found


@pytest.mark.parametrize("package", PACKAGES)
def test_no_file_of_a_package_has_grown_two_subjects(package: str) -> None:
    long = {
        shown(path): lines
        for path in modules(package)
        if (lines := len(_text(path).splitlines())) > _MOST_LINES
    }
    assert not long, long


def test_every_ignored_lint_rule_has_its_reason() -> None:
    section = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    section = section.partition("[tool.ruff.lint]\n")[2].partition("[tool.ruff.lint.pydoc")[0]
    rules = re.findall(r'^\s+"[A-Z]+[0-9]*",.*$', section, re.MULTILINE)
    assert len(rules) > 10
    assert not [rule for rule in rules if not re.search(r'",\s+# \S', rule)]


def test_every_exception_from_a_lint_rule_names_it_and_says_why() -> None:
    """The reason follows the rule on its line, or is the comment just above it."""
    found = []
    for path in files(".py"):
        lines = _text(path).splitlines()
        for number, line in enumerate(lines):
            match = _NOQA.search(line)
            if match is None or path == Path(__file__):
                continue
            above = number > 0 and lines[number - 1].strip().startswith("#")
            if not match["codes"] or not (match["reason"].strip() or above):
                found.append(f"{shown(path)}:{number + 1}")
    assert not found, found


def test_each_warning_that_is_let_pass_has_its_reason() -> None:
    lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    passed = [number for number, line in enumerate(lines) if line.strip().startswith('"ignore:')]
    assert not [lines[n] for n in passed if not lines[n - 1].strip().startswith("#")]


def _locked() -> dict[str, str]:
    """The version of each package in the lock; every line is a name and one version."""
    pinned = {}
    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines():
        requirement = Requirement(line)
        [pin] = requirement.specifier
        assert pin.operator == "==", line
        assert requirement.url is None, line
        pinned[requirement.name] = pin.version
    return pinned


def _wanted() -> list[Requirement]:
    project = pyproject()["project"]
    return [
        Requirement(line)
        for line in project["dependencies"] + project["optional-dependencies"]["dev"]
    ]


def test_the_lock_satisfies_pyproject() -> None:
    locked = _locked()
    unmet = [
        str(wanted)
        for wanted in _wanted()
        if wanted.name not in locked or not wanted.specifier.contains(locked[wanted.name])
    ]
    assert not unmet, f"make lock: {unmet}"


def test_what_is_installed_is_what_is_locked() -> None:
    locked = _locked()
    differing = {}
    for wanted in _wanted():
        try:
            installed = version(wanted.name)
        except PackageNotFoundError:
            installed = "nothing"
        if installed != locked[wanted.name]:
            differing[wanted.name] = (installed, locked[wanted.name])
    assert not differing, f"make setup: {differing}"


@pytest.mark.parametrize("document", _DOCUMENTS, ids=shown)
def test_the_links_of_a_document_resolve(document: Path) -> None:
    broken = []
    for match in _LINK.finditer(_CODE_BLOCK.sub("", _text(document))):
        target = match["target"] or match["image"]
        if re.match(r"[a-z][a-z+]*:", target):
            continue
        name, _, anchor = target.partition("#")
        there = (document.parent / name).resolve() if name else document
        if not there.exists() or (anchor and anchor not in _anchors(there)):
            broken.append(target)
    assert not broken, broken


def _anchors(document: Path) -> set[str]:
    """The anchors that a Markdown renderer makes of a document's headings."""
    headings = re.findall(r"^#+\s+(.*)$", _CODE_BLOCK.sub("", _text(document)), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings
    }


def test_the_state_diagram_shows_every_state_and_outcome_and_no_other() -> None:
    document = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    diagram = document.partition("stateDiagram-v2")[2].partition("```")[0]
    moves = re.findall(r"^\s*(\S+) --> (\S+?)(?:\s*:.*)?$", diagram, re.MULTILINE)
    assert {name for move in moves for name in move} - {"[*]"} == {str(state) for state in State}
    assert not [outcome for outcome in Outcome if f"`{outcome}`" not in document]


def test_decision_records_are_numbered_without_a_gap_and_say_why() -> None:
    records = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    numbers = [int(path.name[:4]) for path in records]
    assert numbers == list(range(1, len(records) + 1))
    for path in records:
        headings = re.findall(r"^## (.*)$", _text(path), re.MULTILINE)
        assert headings == ["Context", "Decision", "Why not", "What follows"], shown(path)
