"""`python -m sandbox`: one process that serves one world until it is told to stop."""

import argparse
import asyncio
import fcntl
import os
import signal
import sys
from pathlib import Path

import uvicorn

from sandbox.app import KEY_RETENTION_SECONDS, WEBHOOK_SECRET, Sandbox, Settings

# Longer than clients keep idle connections, so that it is they who close.
_KEEP_ALIVE_SECONDS = 75
# An answer under way takes milliseconds; what is longer is a fault that holds the connection.
_SHUTDOWN_SECONDS = 1
_BAD_INPUT = 2


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; return 0, or 2 when the sandbox cannot start."""
    options = _parser().parse_args(arguments)
    home: Path = options.home
    home.mkdir(parents=True, exist_ok=True)
    lock = os.open(home / "sandbox.lock", os.O_CREAT | os.O_RDWR, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"sandbox: another sandbox is using {home}", file=sys.stderr)
        return _BAD_INPUT
    settings = Settings(
        home=home,
        webhook_url=options.webhook_url,
        webhook_secret=os.environ.get("SANDBOX_WEBHOOK_SECRET", WEBHOOK_SECRET),
        key_retention_seconds=options.key_retention_seconds,
    )
    # uvicorn stops on these and then raises them again for whoever handled them before: nobody
    # else has anything to do, so that a stop ends with status 0.
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, lambda *_: None)
    return asyncio.run(_serve(settings, options.host, options.port))


async def _serve(settings: Settings, host: str, port: int) -> int:
    sandbox = Sandbox(settings)
    config = uvicorn.Config(
        sandbox.app,
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        ws="none",
    )
    server = uvicorn.Server(config)
    announcing = asyncio.create_task(_announce(server, host))
    try:
        await server.serve()
    except SystemExit:
        print(f"sandbox: cannot listen on {host}:{port}", file=sys.stderr)
        await sandbox.close()
        return _BAD_INPUT
    finally:
        announcing.cancel()
    return 0


async def _announce(server: uvicorn.Server, host: str) -> None:
    # uvicorn says that it has started only in this attribute.
    while not server.started:  # noqa: ASYNC110
        # A hundredth of a second is not noticed at a start that takes half of one.
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    print(f"sandbox ready at http://{host}:{port}", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sandbox", description=__doc__)
    # An argument is read by every user of the machine, so that the secret is none.
    parser.epilog = "SANDBOX_WEBHOOK_SECRET signs the gateway's events."
    parser.add_argument("--home", type=Path, required=True, help="folder of sandbox.db and shop.db")
    parser.add_argument("--port", type=int, required=True, help="0 takes any free port")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--webhook-url", help="where gateway events are sent")
    parser.add_argument("--key-retention-seconds", type=int, default=KEY_RETENTION_SECONDS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
