"""The template that a worker will need, begun before the worker can know that it will.

A worker imports Prefect and asks for its pool, and only then can it say what its template is to
import, which is as much again. So what its pool came to the last time is kept, and is begun first;
should the pool say something else by now, that template is put away.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from pathlib import Path
from urllib.parse import quote

from deployments.template import Template, TemplateOrder

# What a pool or a profile adds may be a password, and a file outlives a password. So only settings
# are kept, and none whose name says that it opens something; else nothing is kept.
_HARMLESS = re.compile(r"(PREFECT|REFUNDS)_(?!.*(AUTH|CERT|CONNECT|KEY|PASS|SECRET|TOKEN|URL))")


def begin(pool_name: str) -> Template | None:
    """A template that was begun as the last one of this pool was; None where there was none."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        template = Template(_read(pool_name))
        template.begin()
        return template
    return None


def keep(pool_name: str, order: TemplateOrder) -> None:
    """Remember it for the next worker of this pool, unless it may not or cannot be written down."""
    given = dict(order.environment)
    place = _place(pool_name)
    # Only what the pool, or Prefect's profile, adds to the worker's own environment.
    added = {name: value for name, value in given.items() if os.environ.get(name) != value}
    kept = {
        "modules": order.modules,
        "directory": order.directory,
        "set": added,
        "unset": [name for name in os.environ if name not in given],
    }
    with contextlib.suppress(OSError):
        if not all(map(_HARMLESS.match, added)):
            place.unlink(missing_ok=True)
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = place.with_suffix(f".{os.getpid()}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(kept, file)
        draft.replace(place)


def _read(pool_name: str) -> TemplateOrder:
    kept = json.loads(_place(pool_name).read_text(encoding="utf-8"))
    left_out = set(kept["unset"])
    own = {name: value for name, value in os.environ.items() if name not in left_out}
    return TemplateOrder(
        modules=tuple(kept["modules"]),
        environment=tuple(sorted({**own, **kept["set"]}.items())),
        directory=str(kept["directory"]),
    )


def _place(pool_name: str) -> Path:
    # As Prefect has it; to ask Prefect is what takes too long.
    home = Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser()
    return home / "warm-worker" / f"{quote(pool_name, safe='')}.json"
