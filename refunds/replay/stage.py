"""The stage: copies of the flow's own modules in which every way out leads to the player.

The real modules stay as they are, so a replay may run where flows run, too. What the copies see
of `tasks` are sealed stand-ins; on top of that nothing that is called while a player plays may
open a connection, a database, a process or a file for writing: the interpreter itself refuses.
"""

import contextlib
import importlib.util
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from prefect import Task
from prefect.context import FlowRunContext
from prefect.flow_runs import apause_flow_run, asuspend_flow_run

from refunds.code_version import code_version

FLOW = "flows.refund"

# What the interpreter reports before it does it; each is a way out of the process.
_CONNECTS = ("socket.connect", "socket.sendto", "sqlite3.connect")
_STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork")
_CHANGES_FILES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir")
_WAYS_OUT = frozenset((*_CONNECTS, *_STARTS, *_CHANGES_FILES))
_WRITES = frozenset("wax+")


class Sealed(BaseException):
    """The flow tried to act by itself; no flow code may catch this."""


class Player(Protocol):
    """Who answers in place of the world."""

    async def step(self, task: Task[..., Any], args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """What the step returned then; raises what it raised."""

    async def hold(self, key: str | None) -> None:
        """The flow waits."""


_playing: ContextVar[Player | None] = ContextVar("playing", default=None)


class Stage:
    """The flow and all modules of `flows` that it uses, loaded anew from their sources.

    `sources` puts another file in the place of a module, by the module's name.
    """

    def __init__(self, sources: Mapping[str, Path] | None = None) -> None:
        self._sources = dict(sources or {})
        edited = ", ".join(str(path) for path in self._sources.values())
        self.code_version = code_version() + (f" with {edited}" if edited else "")
        self._modules: dict[str, ModuleType] = {}
        # From the file as the interpreter knows it to the name that a reader knows.
        self.files: dict[str, str] = {}
        self.flow: Callable[..., Awaitable[Any]] = vars(self._load(FLOW))["refund"].fn

    @contextlib.contextmanager
    def played_by(self, player: Player) -> Iterator[None]:
        """Let a player answer whatever the flow calls in this context."""
        _install_seal()
        token = _playing.set(player)
        try:
            yield
        finally:
            _playing.reset(token)

    def _load(self, name: str) -> ModuleType:
        if name not in self._modules:
            given = self._sources.get(name)
            path = given or _source_of(name)
            self.files[str(path)] = str(given) if given else f"{name.replace('.', '/')}.py"
            module = ModuleType(name)
            module.__file__ = str(path)
            self._modules[name] = module
            code = compile(path.read_text(encoding="utf-8"), str(path), "exec")
            exec(code, vars(module))  # noqa: S102 - it is our own source, or the file asked about
            for entry, value in list(vars(module).items()):
                vars(module)[entry] = self._stand_in(entry, value)
        return self._modules[name]

    def _stand_in(self, entry: str, value: Any) -> Any:
        """What the copy of a module sees in place of `value`."""
        is_module = isinstance(value, ModuleType)
        home = value.__name__ if is_module else getattr(value, "__module__", None) or ""
        if _is_of(home, "tasks") or isinstance(value, Task):
            return _sealed(value)
        if _is_of(home, "flows") and home not in self._modules:
            copy = self._load(home)
            return copy if is_module else getattr(copy, entry, value)
        if is_module and home in self._modules:
            return self._modules[home]
        return _PREFECT.get(id(value), value)


class _NoRun:
    """There is no Prefect run in a replay."""

    @staticmethod
    def get() -> None:
        """None, as outside of a run."""


class _SealedModule:
    """A module of `tasks` whose tasks are answered by the player and whose functions are shut."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return _sealed(getattr(self._module, name))


def _sealed(value: Any) -> Any:
    if isinstance(value, Task):
        return _SealedTask(value)
    if isinstance(value, ModuleType):
        return _SealedModule(value)
    if callable(value) and not isinstance(value, type):
        return _shut(value)
    return value


class _SealedTask:
    """A task that is answered and never run."""

    def __init__(self, task: Task[..., Any]) -> None:
        self._task = task

    def __call__(self, *args: Any, **named: Any) -> Awaitable[Any]:
        return _player().step(self._task, args, named)

    def __getattr__(self, name: str) -> Any:
        raise Sealed(f"{self._task.name}.{name}: a flow calls its steps, one after another")


def _shut(function: Callable[..., Any]) -> Callable[..., Any]:
    def refused(*_args: Any, **_named: Any) -> Any:
        raise Sealed(f"{function.__module__}.{function.__qualname__} is not a step")

    return refused


async def _hold(*_args: Any, key: str | None = None, **_named: Any) -> None:
    await _player().hold(key)


# What a flow takes from Prefect to wait, by identity: not all of it can be hashed.
_PREFECT = {
    id(asuspend_flow_run): _hold,
    id(apause_flow_run): _hold,
    id(FlowRunContext): _NoRun,
}


def _player() -> Player:
    player = _playing.get()
    if player is None:
        raise Sealed("nobody plays")
    return player


def _is_of(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def _source_of(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(name)
    return Path(spec.origin)


def _refuse_ways_out(event: str, arguments: tuple[Any, ...]) -> None:
    """The interpreter's audit hook: before anything leaves the process, or a file is written."""
    if event != "open" and event not in _WAYS_OUT:
        return
    if _playing.get() is None:
        return
    if event == "open":
        path, mode, _ = arguments
        is_ours = str(path).endswith(".pyc") or "__pycache__" in str(path)
        if is_ours or not _WRITES & set(mode or "r"):
            return
    raise Sealed(f"{event}{arguments[:1]}: a flow reaches the world only through its steps")


_seals: list[Callable[..., None]] = []


def _install_seal() -> None:
    """Once a process; a hook cannot be taken away, so it asks whether anybody plays."""
    if not _seals:
        _seals.append(_refuse_ways_out)
        sys.addaudithook(_refuse_ways_out)
