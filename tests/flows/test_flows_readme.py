"""What the README shows of a run is what a run shows, and its program runs."""

from __future__ import annotations

import ast
import asyncio
import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from deployments.stack_environment import PROJECT
from refunds.ledger import requests
from refunds.models import RefundRequest
from tests.flows.flows_world import World, until

pytestmark = pytest.mark.anyio

README = (PROJECT / "README.md").read_text(encoding="utf-8")
RETAIL = PROJECT / "sandbox" / "retail"

_TIME = re.compile(r"\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}")
_DIGEST = re.compile(r"\b[0-9a-f]{64}\b")
_PROGRAM = ("-c", "from refunds.cli import main; main()")


def block(language: str, containing: str) -> str:
    """The README's block of this language with this text in it."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    [found] = [text for text in blocks if containing in text]
    return str(found)


def records(name: str, **fields: str) -> list[dict[str, Any]]:
    """The sample's records with these values."""
    lines = (RETAIL / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines]
    return [record for record in found if fields.items() <= record.items()]


def shop_has(world: World, request: RefundRequest) -> None:
    """Load the sample's order and customer."""
    customers = records("customers", customer_id=request.customer_id)
    orders = records("orders", order_id=request.order_id)
    for kind, found in (("customers", customers), ("orders", orders)):
        assert found
        world.sandbox.post(f"/shop/{kind}", json=found).raise_for_status()


async def python(world: World, *arguments: str) -> str:
    """What a Python process of this world prints; it has to end well."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        env=world.environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await process.communicate()
    finally:
        # A test that fails leaves nothing running.
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, err.decode()
    return out.decode()


def likened(text: str) -> list[str]:
    """The lines without what differs from run to run."""
    return [_DIGEST.sub("DIGEST", _TIME.sub("TIME", line)).rstrip() for line in text.splitlines()]


async def test_the_transcript_in_the_readme_is_what_the_commands_print(world: World) -> None:
    transcript = block("console", "$ refunds show rf_").splitlines()
    commands = [line.removeprefix("$ ") for line in transcript if line.startswith("$ ")]
    decided = shlex.split(commands[0])[2]
    [of_customer] = records("refund_requests", refund_id=decided)
    request, *rivals = (
        RefundRequest.model_validate(record)
        for record in sorted(
            records("refund_requests", order_id=of_customer["order_id"]),
            key=lambda record: record["refund_id"] != decided,
        )
    )
    shop_has(world, request)
    requests.submit(world.ledger, rivals)
    task = await world.start_waiting(request)
    printed = []
    for command in commands:
        name, *arguments = shlex.split(command)
        assert name == "refunds"
        printed += likened(await python(world, *_PROGRAM, *arguments))
        await world.end_of(task)
    told = likened("\n".join(line for line in transcript if not line.startswith("$ ")))
    # It is shortened: every line of it was printed, in this order.
    rest = iter(printed)
    assert [line for line in told if line not in rest] == []
    world.assert_paid_once(request)


async def test_the_program_in_the_readme_submits_a_refund_and_watches_it(
    world: World, tmp_path: Path
) -> None:
    text = block("python", "refunds.submit")
    program = tmp_path / "program.py"
    program.write_text(text, encoding="utf-8")
    [asked] = re.findall(r"submit\(\s*\[(.*?)\]\s*\)", text, re.DOTALL)
    request = RefundRequest.model_validate(ast.literal_eval(asked.strip().rstrip(",")))
    shop_has(world, request)
    running = asyncio.create_task(python(world, str(program)))

    def submitted() -> bool:
        if running.done():
            running.result()
        known = requests.is_known(world.ledger, request.refund_id)
        return known and world.row(request)["run_id"] is not None

    await until(submitted, f"{request.refund_id} is submitted")
    assert (await world.work(request)).name == "Suspended"
    await world.refunds.decide(request.refund_id, "approve", person="alice")
    assert (await world.work(request)).is_completed()
    printed = (await running).splitlines()
    assert printed[0].endswith("refund.submitted")
    assert any(line.endswith("refund.concluded") for line in printed)
    world.assert_paid_once(request)
