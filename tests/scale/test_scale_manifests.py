"""What cannot be run here is checked against its own schema, and against each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml  # type: ignore[import-untyped]  # its stubs are one more package to pin
from compose_pydantic import ComposeSpecification

from deployments.stack_environment import PROJECT
from refunds.settings import Settings
from tests.scale.composed import COMPOSE, compose_file

KUBERNETES = PROJECT / "deployments" / "kubernetes"
_VERSION = "1.37"


def manifests() -> list[tuple[str, dict[str, Any]]]:
    return [
        (path.name, document)
        for path in sorted(KUBERNETES.glob("*.yaml"))
        if path.name != "kustomization.yaml"
        for document in yaml.safe_load_all(path.read_text())
    ]


def of_kind(kind: str) -> dict[str, dict[str, Any]]:
    return {doc["metadata"]["name"]: doc for _, doc in manifests() if doc["kind"] == kind}


def provided() -> dict[str, set[str]]:
    """The variables of each ConfigMap and Secret, by the name that pods take them under."""
    found: dict[str, set[str]] = {}
    for kind, field in (("ConfigMap", "data"), ("Secret", "stringData")):
        for name, document in of_kind(kind).items():
            found.setdefault(name, set()).update(document[field])
    return found


@pytest.mark.parametrize(
    "document", [pytest.param(doc, id=f"{name}-{doc['kind']}") for name, doc in manifests()]
)
def test_every_manifest_is_valid_kubernetes(document: dict[str, Any]) -> None:
    kubernetes_validate.validate(document, _VERSION, strict=True)


def test_a_misspelt_field_of_a_manifest_is_found() -> None:
    document = of_kind("Deployment")["worker"]
    document["spec"]["template"]["spec"]["containers"][0]["comand"] = ["true"]
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, _VERSION, strict=True)


def test_every_manifest_is_applied() -> None:
    listed = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"]
    present = {path.name for path in KUBERNETES.glob("*.yaml")}
    assert present == {*listed, "kustomization.yaml", "secret.example.yaml"}


def test_the_compose_file_is_valid() -> None:
    content = compose_file()
    standard = {name: value for name, value in content.items() if not name.startswith("x-")}
    specification = ComposeSpecification.model_validate(standard)
    assert set(specification.services or {}) >= {"prefect-1", "prefect-2", "worker", "service"}


def test_the_files_that_the_compose_file_mounts_exist() -> None:
    for service in compose_file()["services"].values():
        for volume in service.get("volumes", []):
            source = str(volume).partition(":")[0]
            assert not source.startswith("./") or (COMPOSE / source).is_file()


def test_every_variable_of_the_compose_file_is_in_the_example() -> None:
    text = (COMPOSE / "compose.yaml").read_text()
    example = {line.partition("=")[0] for line in (COMPOSE / "example.env").read_text().split("\n")}
    wanted = {part.partition(":")[0].partition("}")[0] for part in text.split("${")[1:]}
    assert wanted <= example


def test_every_program_of_ours_gets_the_settings_that_only_some_have() -> None:
    """Set-up too: it writes the adapters and the limits into the pool."""
    services = compose_file()["services"]
    for name in ("setup", "worker", "service"):
        assert services[name]["env_file"] == ".env"


def test_both_ways_of_deploying_set_the_same_variables() -> None:
    services, kubernetes = compose_file()["services"], provided()
    server = set(services["prefect-1"]["environment"])
    assert kubernetes["prefect-server"] == server
    assert kubernetes["refunds"] == set(services["worker"]["environment"])


def test_every_refunds_variable_is_a_setting() -> None:
    known = {f"REFUNDS_{name.upper()}" for name in Settings.model_fields}
    ours = {name for name in provided()["refunds"] if name.startswith("REFUNDS_")}
    assert ours <= known


def test_both_ways_of_deploying_run_the_same_programs() -> None:
    services = compose_file()["services"]
    deployments = of_kind("Deployment")
    pairs = {"prefect-api": "prefect-1", "prefect-services": "prefect-services"}
    pairs |= {"worker": "worker", "service": "service"}
    assert set(deployments) == set(pairs)
    for name, service in pairs.items():
        [container] = deployments[name]["spec"]["template"]["spec"]["containers"]
        assert container["command"] == services[service]["command"]
    job = of_kind("Job")["setup"]["spec"]["template"]["spec"]
    assert job["initContainers"][0]["command"] == services["migrate"]["command"]
    assert job["containers"][0]["command"] == services["setup"]["command"]


def test_the_image_has_everything_that_it_runs() -> None:
    lines = (COMPOSE / "Dockerfile").read_text().splitlines()
    copied = [word for line in lines if line.startswith("COPY") for word in line.split()[1:-1]]
    assert all(Path(PROJECT / name).exists() for name in copied)
    assert {"flows", "tasks", "refunds", "deployments", "prefect.yaml"} <= set(copied)
