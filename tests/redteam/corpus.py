"""Hostile and confusing messages; `python -m tests.redteam.corpus` shows what there is."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

_FILE = Path(__file__).with_name("corpus.jsonl")


@dataclass(frozen=True)
class Hostile:
    """One message, and whether no door may take it."""

    id: str
    category: str
    language: str
    message: str
    refused_at_the_door: bool


def read() -> list[Hostile]:
    """The corpus in its order; what is written once may be meant many times."""
    rows = [json.loads(line) for line in _FILE.read_text(encoding="utf-8").splitlines()]
    return [
        Hostile(
            id=row["id"],
            category=row["category"],
            language=row["language"],
            message=row["message"] * row.get("repeat", 1),
            refused_at_the_door=row.get("refused_at_the_door", False),
        )
        for row in rows
    ]


def main() -> None:
    """How many of each category, how many of them no door takes, and the languages."""
    corpus = read()
    table = Table("category", "messages", "refused at the door", "languages")
    for category in dict.fromkeys(hostile.category for hostile in corpus):
        rows = [hostile for hostile in corpus if hostile.category == category]
        languages = Counter(hostile.language for hostile in rows)
        refused = sum(hostile.refused_at_the_door for hostile in rows)
        table.add_row(category, str(len(rows)), str(refused), " ".join(sorted(languages)))
    refused = sum(hostile.refused_at_the_door for hostile in corpus)
    table.add_row("all", str(len(corpus)), str(refused), str(len({h.language for h in corpus})))
    Console().print(table)


if __name__ == "__main__":
    main()
