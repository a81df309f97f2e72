"""The environment of each process of the embedded stack, with the reason for each setting."""

from collections.abc import Mapping
from pathlib import Path

from sqlalchemy.engine import make_url

from refunds.names import RESULTS_BLOCK
from refunds.settings import Settings

# The folder of prefect.yaml, which entry points such as flows/refund.py are relative to.
PROJECT = Path(__file__).resolve().parent.parent

SYSTEMS = ("gateway", "crm", "coupons", "logistics", "notices", "model")

# Of the caller's own Prefect: another server, another database, another account.
_FOREIGN = (
    *("PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_PROFILE", "PREFECT_PROFILES_PATH"),
    *("PREFECT_API_DATABASE_", "PREFECT_SERVER_DATABASE_", "PREFECT_API_AUTH_STRING"),
)

_CLIENT_SETTINGS = {
    # Nothing about a refund leaves the machine by way of statistics.
    "DO_NOT_TRACK": "1",
    # A thread and a request every 10 s in each run, for numbers that nobody reads.
    "PREFECT_TELEMETRY_ENABLE_RESOURCE_METRICS": "false",
    # Two requests of each new client, of which a run makes several: server and clients are of one
    # installation here, and the server, which has a password, asks for no such token.
    "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false",
    "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED": "false",
    # A missed event is found by the next poll. Events make the usual case immediate, so
    # that polling more often only costs: a poll is four requests.
    "PREFECT_WORKER_QUERY_SECONDS": "10",
}

_SERVER_SETTINGS = {
    "DO_NOT_TRACK": "1",
    # Its own name for the same wish: no counts of runs to Prefect's makers.
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # Approvers need no offers.
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    # Each of its loops, one every few seconds, would load every waiting refund. No wait of a refund
    # has a time in Prefect; a run that somebody suspended by hand for some time is the sweep's.
    "PREFECT_SERVER_SERVICES_PAUSE_EXPIRATIONS_ENABLED": "false",
    # Marking a queue of three hundred refunds late is three hundred writes that help nobody:
    # the sweep knows which refund is stuck.
    "PREFECT_SERVER_SERVICES_LATE_RUNS_ENABLED": "false",
    # By default each event of a task run is a transaction of its own, written by several
    # consumers at once: SQLite's one writer then stands still for up to a minute.
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "2",
    # Plans the sweep's next six runs and not the 120 of Prefect's hour: what was planned
    # when the stack was stopped all comes due at once. Three times the planner's loop.
    "PREFECT_SERVER_SERVICES_SCHEDULER_MIN_SCHEDULED_TIME": "PT3M",
    # One transaction for a hundred events: SQLite has one writer, and a refund sends dozens.
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "100",
    # A week of events covers the questions that the ledger's own history,
    # which is kept for ever, leaves open.
    "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": "P7D",
}


def run_environment(settings: Settings, given: Mapping[str, str]) -> dict[str, str]:
    """The REFUNDS_ variables that runs need, with absolute paths, without any secret.

    They are kept in the work pool, where whoever may open the Prefect UI can read them.
    Secrets reach a run through its worker's own environment, and so do addresses: a webhook's
    path is its password.
    """
    environment = {"REFUNDS_HOME": str(settings.home_dir), "REFUNDS_PORT": str(settings.port)}
    adapters = [f"REFUNDS_{system.upper()}_ADAPTER" for system in SYSTEMS]
    as_given = [name for name in (*adapters, "REFUNDS_LIMITS") if name in given]
    environment |= {name: given[name] for name in as_given}
    for name in ("policy", "systems_mapping", "shop_mapping"):
        path: Path | None = getattr(settings, name)
        if path is not None:
            environment[f"REFUNDS_{name.upper()}"] = str(path.expanduser().absolute())
    if settings.model_name:
        environment["REFUNDS_MODEL_NAME"] = settings.model_name
    # Names of Prefect blocks, which hold the secrets.
    for name in Settings.model_fields:
        if name.endswith("_block") and (block_name := getattr(settings, name)):
            environment[f"REFUNDS_{name.upper()}"] = block_name
    if settings.public_url:
        environment["REFUNDS_PUBLIC_URL"] = settings.public_url
    # Results go where every worker finds them.
    environment["PREFECT_RESULTS_DEFAULT_STORAGE_BLOCK"] = RESULTS_BLOCK
    return environment


def client_environment(settings: Settings, given: Mapping[str, str]) -> dict[str, str]:
    """For whatever talks to the embedded Prefect server: the caller's, made to point at it."""
    return {
        **_CLIENT_SETTINGS,
        **_without_foreign(given),
        **run_environment(settings, given),
        **_absolute_databases(settings, given),
        "PREFECT_HOME": str(settings.home_dir / "prefect"),
        "PREFECT_API_URL": f"{settings.prefect_url}/api",
        **_named("PREFECT_API_AUTH_STRING", settings.embedded_auth_string),
        # A proxy for the outside world knows nothing of this machine.
        **dict.fromkeys(("NO_PROXY", "no_proxy"), _no_proxy(given)),
    }


def server_environment(settings: Settings, given: Mapping[str, str]) -> dict[str, str]:
    """For the Prefect server itself; what the caller has set explicitly stays."""
    environment = {
        **_SERVER_SETTINGS,
        **_without_foreign(given),
        "PREFECT_HOME": str(settings.home_dir / "prefect"),
        # The UI learns the API's address from these, not from the command line.
        "PREFECT_SERVER_API_HOST": "127.0.0.1",
        "PREFECT_SERVER_API_PORT": str(settings.port),
        **dict.fromkeys(("NO_PROXY", "no_proxy"), _no_proxy(given)),
    }
    # Whoever has it may force any run into any state; the money rests on the ledger all the same.
    environment |= _named("PREFECT_SERVER_API_AUTH_STRING", settings.embedded_auth_string)
    if database_url := settings.prefect_database_url.get_secret_value():
        url = make_url(database_url)
        if url.get_backend_name() == "postgresql":
            # The only PostgreSQL driver that Prefect's server works with.
            url = url.set(drivername="postgresql+asyncpg")
        text = url.render_as_string(hide_password=False)
        environment["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = text
    return environment


def _without_foreign(given: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in given.items() if not name.startswith(_FOREIGN)}


def _named(name: str, value: str) -> dict[str, str]:
    """The variable, or none: an empty one would be an empty password to Prefect."""
    return {name: value} if value else {}


def _no_proxy(given: Mapping[str, str]) -> str:
    known = given.get("NO_PROXY") or given.get("no_proxy") or ""
    return ",".join(filter(None, (known, "127.0.0.1", "localhost")))


def _absolute_databases(settings: Settings, given: Mapping[str, str]) -> dict[str, str]:
    """SQLite files named relative to the caller's directory, which is not the children's."""
    found = {}
    for name, url in (
        ("REFUNDS_LEDGER_URL", settings.ledger_url),
        ("REFUNDS_SHOP_URL", settings.shop_url),
    ):
        parsed = make_url(url.get_secret_value()) if given.get(name) else None
        if parsed is not None and parsed.get_backend_name() == "sqlite" and parsed.database:
            parsed = parsed.set(database=str(Path(parsed.database).absolute()))
            found[name] = parsed.render_as_string(hide_password=False)
    return found
