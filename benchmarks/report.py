"""docs/performance.md, from what was measured last and what has to be said about it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

_WORDS = Path(__file__).with_name("performance.md.in")

Found = dict[str, Any]
Kept = dict[str, Found]

_KINDS = {"postgresql": "PostgreSQL", "sqlite": "SQLite"}


def written(kept: Kept) -> str:
    """The document; a part that was never measured says so."""
    text = _WORDS.read_text(encoding="utf-8")
    for part, table in (
        ("batch", _batch),
        ("latency", _latency),
        ("recovery", _recovery),
        ("waiting", _waiting),
        ("inbox", _inbox),
    ):
        found = [kept[f"{part} {kind}"] for kind in _KINDS if f"{part} {kind}" in kept]
        text = text.replace(f"<!-- {part} -->", table(found) if found else "Not measured yet.")
    return text


def _batch(found: list[Found]) -> str:
    rows = []
    for one in found:
        kind, floor = _KINDS[one["kind"]], _mean(_rate(each) for each in one["floors"])
        runs = [("floor: asyncio + httpx, nothing survives", each) for each in one["floors"]]
        runs += [(_batch_name(each), each) for each in one["batches"]]
        runs.append(("plain Prefect, a flow run a refund", one["plain"]))
        rows += [
            (
                kind,
                name,
                f"{_rate(each):.1f}",
                f"{_rate(each) / floor:.0%}",
                f"{_cost(each):.1f}",
                f"{each['peak_rss_mb']:.0f}",
            )
            for name, each in runs
        ]
    head = ("on", "what", "refunds/s", "of the floor", "CPU ms a refund", "peak RSS MB")
    return "\n\n".join([_table(head, rows), *map(_batch_words, found), *map(_machine, found)])


def _batch_name(batch: Found) -> str:
    reviews = (
        ", one in ten for a person" if batch["review_every"] else ", all approved by the rules"
    )
    return f"batch of {batch['refunds']:,}{reviews}"


def _batch_words(one: Found) -> str:
    small, large, account = one["batches"][1], one["batches"][-1], one["account"]
    complete = "all accounted for" if account["is_complete"] else "NOT all accounted for"
    return (
        f"{_KINDS[one['kind']]}: with reviews, a refund of the batch of {large['refunds']:,} costs "
        f"{_cost(large) / _cost(small):.2f} times one of the batch of {small['refunds']:,}. "
        f"Of {account['refunds']:,} refunds {account['paid']:,} were paid and "
        f"{account['waiting']:,} wait for a person, {complete}; the other systems saw "
        f"{account['repeats_seen_outside']} keys twice. `refunds verify`: {account['verify']}"
    )


def _latency(found: list[Found]) -> str:
    rows = [
        (
            _KINDS[one["kind"]],
            *_seconds(one["submit_to_last_effect"]),
            *_seconds(one["decision_to_payment"]),
            f"{one['fifty_at_once_seconds']:.1f} s",
            f"{_cost(one['floor']):.1f} ms",
        )
        for one in found
    ]
    head = (
        *("on", "submit → last effect p50", "p95", "decision → payment p50", "p95"),
        *("fifty decided at once, all paid", "CPU of the floor's refund"),
    )
    return "\n\n".join([_table(head, rows), *map(_machine, found)])


def _recovery(found: list[Found]) -> str:
    rows = [
        (_KINDS[one["kind"]], what, ", ".join(f"{seconds:.1f}" for seconds in one[name]))
        for one in found
        for name, what in (("worker", "worker and its runs"), ("batch", "process of a batch"))
    ]
    head = ("on", "what is killed", "seconds to the next step of what was struck")
    return "\n\n".join([_table(head, rows), *map(_machine, found)])


def _waiting(found: list[Found]) -> str:
    rows = [
        (
            _KINDS[one["kind"]],
            f"{idle['waiting']:,}",
            role,
            f"{use['processes']:.0f}",
            f"{use['rss_mb']:.0f}",
            f"{use['cpu_percent']:.1f} %",
        )
        for one in found
        for idle in one["idle"]
        for role, use in idle["roles"].items()
    ]
    head = ("on", "waiting", "role", "processes", "RSS MB", "of one core")
    return "\n\n".join([_table(head, rows), *map(_machine, found)])


def _inbox(found: list[Found]) -> str:
    rows = [
        (
            _KINDS[one["kind"]],
            f"{count['waiting']:,}",
            page,
            f"{times['median_ms']:.0f} ms",
            f"{times['p95_ms']:.0f} ms",
        )
        for one in found
        for count in one["counts"]
        for page, times in count["pages"].items()
    ]
    head = ("on", "waiting", "page", "median", "95 %")
    return "\n\n".join([_table(head, rows), *map(_machine, found)])


def _machine(one: Found) -> str:
    about = one["machine"]
    return (
        f"_{_KINDS[one['kind']]}, {about['at']}: {about['processor']}, {about['cores']} cores, "
        f"{about['memory_gb']} GB, {about['system']}, Python {about['python']}, Prefect "
        f"{about['prefect']}; load average before: {about['load']}._"
    )


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [tuple(head)]
    lines += [tuple("---" for _ in lines[0]), *map(tuple, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _rate(one: Found) -> float:
    return float(one["refunds"] / one["seconds"])


def _cost(one: Found) -> float:
    return float(1_000 * one["cpu_seconds"] / one["refunds"])


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)


def _seconds(found: Found) -> tuple[str, str]:
    return f"{found['p50']:.2f} s", f"{found['p95']:.2f} s"
