"""Small flows for the tests of the warm worker; each test project gets a copy."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.blocks.system import Secret
from prefect.flow_runs import asuspend_flow_run

EDITION = "first"


def note(place: str, name: str, text: str) -> None:
    """Leave a trace that the test can wait for: whole or not at all."""
    path = Path(place, name)
    draft = path.with_suffix(".draft")
    draft.write_text(text)
    draft.replace(path)


@flow
def trace(place: str) -> None:
    """Says which process and which edition of the code ran it."""
    note(place, "trace", f"{os.getpid()} {os.getppid()} {os.environ.get('TINT')}")
    note(place, "edition", EDITION)


def write_cancelled(flow: Any, flow_run: Any, state: Any) -> None:
    note(flow_run.parameters["place"], "cancellation-hook", f"{flow.name} {state.name}")


def write_crashed(flow: Any, flow_run: Any, state: Any) -> None:
    note(flow_run.parameters["place"], "crash-hook", f"{flow.name} {state.name}")


@flow(on_cancellation=[write_cancelled], on_crashed=[write_crashed])
async def linger(place: str) -> None:
    """Works until it is let go."""
    note(place, "started", str(os.getpid()))
    go = Path(place, "go")
    # The signal comes from another process, so it is a file and not an event.
    while not await asyncio.to_thread(go.exists):  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    note(place, "finished", str(os.getpid()))


@flow
async def confide(place: str) -> None:
    """Tells a secret that its pool names, and one that it does not."""
    secrets: list[Any] = [await Secret.aload(name) for name in ("told", "untold", "told")]
    note(place, "words", " ".join(secret.get() for secret in secrets))


@task
async def stride(place: str) -> bool:
    """Whether this was the last one."""
    await asyncio.sleep(0.05)
    return await asyncio.to_thread(Path(place, "go").exists)


@flow
async def stroll(place: str) -> None:
    """Works step by step until it is let go; between steps it may be suspended."""
    note(place, "started", str(os.getpid()))
    strides = 0
    while not await stride(place):
        strides += 1
        note(place, f"strode-{strides}", str(os.getpid()))


@flow
async def ask(place: str) -> None:
    """Waits for a person without holding a process."""
    note(place, "asked", str(os.getpid()))
    await asuspend_flow_run(timeout=600, key="approval")
    note(place, "answered", str(os.getpid()))


def by_name(context: Any, parameters: dict[str, Any]) -> str:
    return f"{parameters['place']}:{context.task.name}"


@task(cache_key_fn=by_name, persist_result=True)
async def remember(place: str) -> str:
    return f"remembered by {os.getpid()}"


@task(cache_key_fn=by_name, persist_result=True)
async def recall(place: str, memory: str) -> str:
    return f"{memory}, recalled by {os.getpid()}"


@flow(persist_result=True, result_storage="ledger-storage/memory")
async def rest(place: str) -> None:
    """Lies down between two steps, and begins at the top when it goes on."""
    memory = await remember(place)
    if not await asyncio.to_thread(Path(place, "rested").exists):
        note(place, "rested", str(os.getpid()))
        await asuspend_flow_run(timeout=600, key="rest")
    note(place, "memory", await recall(place, memory))
