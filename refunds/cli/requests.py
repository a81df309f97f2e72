"""`refunds load`, `submit` and `assess`: files in, all of a file or nothing of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refunds.cli import arguments, environment, output
from refunds.errors import BadInput, RefundError
from refunds.values import Value

if TYPE_CHECKING:
    import httpx

# The sandbox's own limit on the records in one batch.
_BATCH_COUNT = 2_000
# Twice what a batch may take on a machine ten times slower.
_BATCH_SECONDS = 30.0
# Above it an answer is a refusal.
_BAD_REQUEST = 400
# More lines than this do not help the reader of a terminal.
_PRINTED_PROBLEMS = 20


def load(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Has orders.jsonl and customers.jsonl.")
    ],
    as_json: output.AsJson = False,
) -> None:
    """Load shop data into the sandbox; loading it again changes nothing."""
    from refunds import shop_data

    customers = shop_data.read_customers(*arguments.read(str(directory / "customers.jsonl")))
    orders = shop_data.read_orders(*arguments.read(str(directory / "orders.jsonl")))
    for kind, records in (("customers", customers), ("orders", orders)):
        _post_all(kind, [record.model_dump(mode="json", exclude_unset=True) for record in records])
    if as_json:
        output.write_json([{"customers": len(customers), "orders": len(orders)}])
    else:
        print(f"loaded {len(customers)} customers and {len(orders)} orders")


def submit(
    file: arguments.File,
    nightly: Annotated[bool, typer.Option(help="Leave them to tonight's batch.")] = False,
    as_json: output.AsJson = False,
) -> None:
    """Submit refund requests; submitting them again changes nothing."""
    import asyncio

    from refunds import intake

    requests = intake.read_requests(*arguments.read(file))
    environment.prepare()
    from refunds.api import AsyncRefunds

    async def run() -> list[dict[str, Any]]:
        async with AsyncRefunds() as refunds:
            lane = "nightly" if nightly else "now"
            return _plain(await refunds.submit(requests, lane=lane))

    submitted = asyncio.run(run())
    _show(submitted, ("refund_id", "run_id", "state"), as_json=as_json)
    waiting = sum(s["run_id"] is None and s["state"] != "completed" for s in submitted)
    if waiting and not nightly:
        output.note(
            f"{waiting} of {len(submitted)} are safe in the ledger without a run; the sweep "
            "starts them once Prefect is up (`refunds up`)"
        )


def assess(
    file: arguments.File,
    with_model: Annotated[
        bool, typer.Option("--with-model", help="Ask the model, too; it costs what it costs.")
    ] = False,
    as_json: output.AsJson = False,
) -> None:
    """Say what the rules would decide; nothing is done."""
    import asyncio

    from refunds import intake

    requests = intake.read_requests(*arguments.read(file))
    environment.prepare()
    from refunds.api import AsyncRefunds

    async def run() -> list[dict[str, Any]]:
        async with AsyncRefunds() as refunds:
            return _plain(await refunds.assess(requests, with_model=with_model))

    _show(asyncio.run(run()), ("refund_id", "verdict", "reasons"), as_json=as_json)


def _plain(values: list[Any]) -> list[dict[str, Any]]:
    return [value.plain() for value in values if isinstance(value, Value)]


def _show(records: list[dict[str, Any]], fields: tuple[str, ...], *, as_json: bool) -> None:
    if as_json:
        output.write_json({name: record[name] for name in fields} for record in records)
        return
    columns = [name.removesuffix("_id") for name in fields]
    rows = ([_cell(record[name]) for name in fields] for record in records)
    output.write_table(columns, rows, "nothing was submitted")


def _cell(value: object) -> object:
    return "\n".join(map(str, value)) if isinstance(value, list) else value


# --- Loading ---


def _post_all(kind: str, records: list[dict[str, Any]]) -> None:
    """Send the records in batches. Raises BadInput naming what the sandbox refuses."""
    import httpx

    from refunds.settings import settings

    id_field = f"{kind.removesuffix('s')}_id"
    url = settings().sandbox_url
    try:
        # The sandbox is on this machine: no proxy is asked.
        with httpx.Client(base_url=url, trust_env=False, timeout=_BATCH_SECONDS) as client:
            for batch in _batches(records):
                answer = client.post(f"/shop/{kind}", json=batch)
                if answer.status_code >= _BAD_REQUEST:
                    _refused(kind, [record[id_field] for record in batch], answer)
    except httpx.HTTPError as error:
        raise RefundError(
            f"the sandbox does not answer at {url} ({type(error).__name__}); "
            "start it with `refunds up`"
        ) from error


def _batches(records: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    for start in range(0, len(records), _BATCH_COUNT):
        yield records[start : start + _BATCH_COUNT]


def _refused(kind: str, ids: list[str], answer: "httpx.Response") -> None:
    """Raise what the sandbox says of each record, by its id."""
    try:
        problems = answer.json().get("errors", [])
        lines = [f"  {ids[p['index']]}: {p['error']}" for p in problems[:_PRINTED_PROBLEMS]]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        problems, lines = [], []
    if not lines:
        raise RefundError(f"the sandbox answered {answer.status_code} when {kind} were loaded")
    more = len(problems) - len(lines)
    lines += [f"  and {more} more"] if more > 0 else []
    raise BadInput(
        f"the shop refuses {len(problems)} {kind}; correct them and load the directory again\n"
        + "\n".join(lines)
    )
