"""How a run is created: the deployment's id is asked for once, and again when it is another."""

from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

from tasks import runs

pytestmark = pytest.mark.anyio


class _Prefect:
    """One deployment, which can be deleted and made anew."""

    def __init__(self) -> None:
        self.deployment: UUID | None = uuid4()
        self.asked = 0
        self.created: list[tuple[UUID, dict[str, Any]]] = []

    async def read_deployment_by_name(self, name: str) -> DeploymentResponse:
        self.asked += 1
        if self.deployment is None:
            raise ObjectNotFound(Exception(name))
        return DeploymentResponse(id=self.deployment, name=name, flow_id=uuid4(), labels={})

    async def create_flow_run_from_deployment(self, deployment: UUID, **facts: Any) -> FlowRun:
        if deployment != self.deployment:
            # As Prefect's client has it, which makes no ObjectNotFound of this.
            request, response = httpx.Request("POST", "http://prefect"), httpx.Response(404)
            raise PrefectHTTPStatusError("not found", request=request, response=response)
        self.created.append((deployment, facts))
        return FlowRun(flow_id=uuid4())


@pytest.fixture
def prefect(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(runs, "_deployments", {})
    return _Prefect()


async def test_a_process_asks_for_a_deployment_once(prefect: Any) -> None:
    for name in ("rf1", "rf2"):
        await runs._create(prefect, "refund/refund", name=name)
    assert prefect.asked == 1
    assert [facts for _, facts in prefect.created] == [{"name": "rf1"}, {"name": "rf2"}]


async def test_a_deployment_that_was_made_anew_is_found_again(prefect: Any) -> None:
    await runs._create(prefect, "refund/refund", name="rf1")
    prefect.deployment = uuid4()
    await runs._create(prefect, "refund/refund", name="rf2")
    assert prefect.created[-1] == (prefect.deployment, {"name": "rf2"})
    assert len(prefect.created) == 2


async def test_a_deployment_that_is_gone_is_said_to_be(prefect: Any) -> None:
    await runs._create(prefect, "refund/refund", name="rf1")
    prefect.deployment = None
    with pytest.raises(ObjectNotFound):
        await runs._create(prefect, "refund/refund", name="rf2")


async def test_what_else_is_refused_is_not_asked_for_again(
    prefect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await runs._create(prefect, "refund/refund", name="rf1")

    async def refuse(*_: Any, **__: Any) -> FlowRun:
        request, response = httpx.Request("POST", "http://prefect"), httpx.Response(409)
        raise PrefectHTTPStatusError("no", request=request, response=response)

    monkeypatch.setattr(prefect, "create_flow_run_from_deployment", refuse)
    with pytest.raises(PrefectHTTPStatusError):
        await runs._create(prefect, "refund/refund", name="rf2")
    assert prefect.asked == 1
