"""What every task stands on: the ledger, the shop's database, the policy, this run's fences."""

import threading
from contextlib import suppress
from functools import lru_cache

import httpx
import sqlalchemy as sa
from prefect.context import FlowRunContext
from prefect_sqlalchemy import SqlAlchemyConnector

from refunds import policy_file
from refunds.errors import BadInput, NeedsAttention, StaleRunner, SystemUnavailable
from refunds.ledger import Ledger, LedgerStorage, Page, connector, engine_of, journal
from refunds.ledger.policies import remember
from refunds.names import LEDGER_BLOCK, SHOP_BLOCK
from refunds.policy_file import Policy
from refunds.settings import settings

# Set in a process that has Prefect's address and no other, though it runs no flow.
_by_blocks = threading.Event()

# The fencing number this process holds for each refund it runs.
_fences: dict[str, int] = {}

# The digests of what the history of each of them holds already.
_known: dict[str, set[str]] = {}


@lru_cache(maxsize=4)
def _engine(block_name: str, database_url: str) -> sa.Engine:
    """A worker reads the connector block, so that it needs no address but Prefect's."""
    is_ledger = block_name == LEDGER_BLOCK
    run = FlowRunContext.get()
    if run is None and not _by_blocks.is_set():
        block = connector(database_url)
    elif (
        run is not None and is_ledger and isinstance(run.result_store.result_storage, LedgerStorage)
    ):
        # The run's results are kept in the ledger's database: its block is loaded already.
        block = run.result_store.result_storage.connector
    else:
        block = SqlAlchemyConnector.load(block_name, _sync=True)
    return engine_of(block, is_ledger=is_ledger)


def ledger() -> Ledger:
    """The ledger: by its connector block inside a flow run, by the settings elsewhere."""
    return Ledger(_engine(LEDGER_BLOCK, settings().ledger_database_url))


def read_blocks() -> None:
    """From here on this process finds its databases by their blocks, as a flow run does."""
    _by_blocks.set()


def connect(results: LedgerStorage) -> None:
    """Do what the first steps of a flow run would wait for, beside Prefect's own start of it.

    What fails here is met again, and told, by the step that needs it.
    """
    read_blocks()
    with suppress(Exception):
        engine_of(results.connector).connect().close()
    with suppress(Exception):
        shop().connect().close()


def shop() -> sa.Engine:
    """The shop's database, which we only read: by the user's own block, where one is named.

    Raises SystemUnavailable when Prefect cannot be asked for that block, NeedsAttention when it
    has none of that name.
    """
    if settings().shop_block:
        return _theirs(settings().shop_block)
    return _engine(SHOP_BLOCK, settings().shop_database_url)


@lru_cache(maxsize=4)
def _theirs(block_name: str) -> sa.Engine:
    try:
        block = SqlAlchemyConnector.load(block_name, _sync=True)
    except httpx.HTTPError as error:
        raise SystemUnavailable("prefect", f"no block now ({type(error).__name__})") from error
    except ValueError as error:
        raise NeedsAttention(
            f"Prefect has no sqlalchemy-connector block {block_name!r}, "
            "which REFUNDS_SHOP_BLOCK names"
        ) from error
    return engine_of(block, is_ledger=False)


def policy() -> Policy:
    """The policy in force: the user's file where there is one. Raises BadInput."""
    path = settings().policy or settings().home_dir / "policy.toml"
    if settings().policy is None and not path.exists():
        path = policy_file.DEFAULT_POLICY_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the policy file {path} cannot be read: {error}") from error
    found = policy_file.parse(text, str(path))
    remember(ledger(), found.full_version, text)
    return found


def hold(refund_id: str, fence: int) -> None:
    """Remember the fence that this process was given for a refund."""
    _fences[refund_id] = fence
    _known.pop(refund_id, None)


def let_go(refund_id: str) -> None:
    """Forget the fence; writing as the runner is over."""
    _fences.pop(refund_id, None)
    _known.pop(refund_id, None)


def holds(refund_id: str) -> bool:
    """Whether this process was given a fence for a refund and did not let go."""
    return refund_id in _fences


def fence(refund_id: str) -> int:
    """This process's fence for a refund. Raises StaleRunner when it has none."""
    try:
        return _fences[refund_id]
    except KeyError:
        raise StaleRunner(f"this process does not run {refund_id}") from None


def known_values(page: Page) -> set[str]:
    """The digests of what a refund's history holds; read once by each runner."""
    found = _known.get(page.refund_id)
    return journal.known_values(page) if found is None else found


def keep_known_values(refund_id: str, known: set[str]) -> None:
    """Remember them, once what holds them is committed."""
    if refund_id in _fences:
        _known[refund_id] = known
