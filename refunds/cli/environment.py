"""The environment that Prefect's client reads when it is imported."""

import contextlib
import os


def prepare() -> None:
    """Point Prefect's client at our server, whatever the caller's own profiles say.

    Called before Prefect is imported; what the caller has set in the environment stays.
    """
    from refunds.settings import settings

    given = {
        # Above any profile, `.env` or prefect.toml of the directory we happen to be in.
        "PREFECT_API_URL": settings().prefect_api_url,
        # Profiles and keys of the caller's other Prefects stay out; the stack's own is here.
        "PREFECT_HOME": str(settings().home_dir / "prefect"),
        # A command's result is what it says; runs and workers keep logs.
        "PREFECT_LOGGING_LEVEL": "WARNING",
        # Nothing about a refund leaves the machine by way of statistics.
        "DO_NOT_TRACK": "1",
    }
    if settings().prefect_auth_string:
        given["PREFECT_API_AUTH_STRING"] = settings().prefect_auth_string
    # Prefect makes its directory, but not one within another. Whoever needs it will say so.
    with contextlib.suppress(OSError):
        settings().home_dir.mkdir(parents=True, exist_ok=True)
    for name, value in given.items():
        os.environ.setdefault(name, value)
    if os.environ["PREFECT_HOME"] == given["PREFECT_HOME"]:
        # They name a profile of a home that is not in use.
        for name in ("PREFECT_PROFILE", "PREFECT_PROFILES_PATH"):
            os.environ.pop(name, None)
    for name in ("NO_PROXY", "no_proxy"):
        # A proxy for the outside world knows nothing of this machine.
        known = [host for host in os.environ.get(name, "").split(",") if host]
        ours = [host for host in ("127.0.0.1", "localhost") if host not in known]
        os.environ[name] = ",".join([*known, *ours])
