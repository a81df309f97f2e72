"""Histories of each path, kept: a change of the flow that would derail refunds in flight fails.

Each folder holds the histories of one version of the flow. `make golden` writes those of the
current version anew; the earlier ones stay as they are, for as long as such refunds may be about.
"""

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from refunds import history_document
from refunds.flow_version import FLOW_VERSION
from refunds.replay import Stage, replay, reports
from tests.house.source import ROOT
from tests.replay.paths import PATHS

GOLDEN = Path(__file__).parents[1] / "golden"
SCHEMA = ROOT / "docs" / "history.schema.json"
KEPT = sorted(GOLDEN.glob("v*/*.json"))


@pytest.fixture(scope="module")
def stage() -> Stage:
    return Stage()


@pytest.mark.parametrize("path", KEPT, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_refund_in_flight_goes_on_as_its_history_says(path: Path, stage: Stage) -> None:
    performance = replay(history_document.read(path.read_bytes(), path.name), stage)
    assert performance.is_same, "\n".join(reports.lines(performance))


@pytest.mark.parametrize("version", range(1, FLOW_VERSION + 1))
def test_every_path_of_every_version_is_kept(version: int) -> None:
    kept = {path.stem for path in KEPT if path.parent.name == f"v{version}"}
    missing = set(PATHS) - kept if version == FLOW_VERSION else set()
    assert kept, f"`make golden` writes the histories of version {version}"
    assert not missing, f"`make golden` writes the histories of {sorted(missing)}"


def test_the_schema_of_a_history_is_the_one_in_the_docs() -> None:
    assert json.loads(SCHEMA.read_text(encoding="utf-8")) == history_document.schema()


@pytest.mark.parametrize("path", KEPT, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_history_is_as_its_schema_says(path: Path) -> None:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    Draft202012Validator(schema).validate(json.loads(path.read_bytes()))
