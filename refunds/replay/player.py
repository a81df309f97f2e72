"""The player: answers each call of the flow from the script, and stops at the first difference."""

import inspect
import typing
from dataclasses import dataclass, field
from functools import lru_cache
from types import FrameType
from typing import Any

from prefect import Task
from pydantic import TypeAdapter, ValidationError

from refunds import errors, policy_file
from refunds.ledger import journal
from refunds.policy_file import Policy
from refunds.replay.script import Act, Line, Script
from refunds.replay.stage import Stage


@dataclass(frozen=True)
class Place:
    """Where the flow stands: a line of its source. The innermost place comes first in a list."""

    file: str
    line: int
    function: str

    def plain(self) -> dict[str, Any]:
        """The place as JSON types."""
        return {"file": self.file, "line": self.line, "function": self.function}


@dataclass(frozen=True)
class Command:
    """What the flow asked for: a step under its key with its inputs."""

    step: str
    key: str | None
    inputs: dict[str, Any]


@dataclass(frozen=True)
class Difference:
    """The first point at which the flow did otherwise than then.

    `kind` is one of: step, inputs, missing (it no longer comes), added (it came where the history
    ends), outcome, output (today's code cannot read it), sealed (it would have acted), raised.
    """

    kind: str
    said: str
    expected: Line | None = None
    issued: Command | None = None
    places: tuple[Place, ...] = ()


class Diverged(BaseException):
    """Stops the flow at a difference; no flow code may catch this."""

    def __init__(self, difference: Difference) -> None:
        super().__init__(difference.said)
        self.difference = difference


class Interrupted(BaseException):
    """The run that is replayed ended here: its process died. The next act begins at the top."""


class TheEnd(BaseException):
    """The history ends here, and the refund was under way then."""


class FailedThen(Exception):
    """A step failed then with an error that is not one of ours."""


@dataclass
class Player:
    """Walks through the acts of a script as the flow calls its steps."""

    script: Script
    stage: Stage
    act_number: int = 0
    line_number: int = 0
    results: dict[str, Line] = field(default_factory=dict)
    commands: list[Command] = field(default_factory=list)
    places: dict[int, tuple[Place, ...]] = field(default_factory=dict)
    raised: BaseException | None = None

    @property
    def act(self) -> Act:
        """The act that is played."""
        return self.script.acts[self.act_number]

    @property
    def next_line(self) -> Line | None:
        """What comes next in this act, if anything does."""
        lines = self.act.lines
        return lines[self.line_number] if self.line_number < len(lines) else None

    def next_act(self) -> bool:
        """Go on with the next run; False when there was none."""
        if self.act_number + 1 >= len(self.script.acts):
            return False
        self.act_number += 1
        self.line_number = 0
        for key in self.act.forgotten:
            self.results.pop(key, None)
        return True

    async def step(self, task: Task[..., Any], args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """What the step returned then; raises what it raised, or Diverged."""
        places = self._places(inspect.currentframe())
        command = _command(task, args, named)
        if command.key is None and self.next_line is None and self._begins(command):
            self.next_act()
        line = self.next_line
        if line is None or not line.is_called(command.step, command.key):
            line = self._otherwise(line, command, places)
        else:
            self.commands.append(command)
            self._compare(task, line, command, places)
            self.line_number += 1
            self.places[line.sequence] = places
            if line.key is not None and line.error is None:
                self.results[line.key] = line
        return self._answer(task, line, command, places)

    async def hold(self, key: str | None) -> None:
        """The flow waits, as it did then; what ended the wait let the next run go on."""
        places = self._places(inspect.currentframe())
        if self.next_line is not None:
            said = f"the flow waits ({key}) before {self.next_line.step}"
            raise Diverged(Difference("missing", said, self.next_line, None, places))
        if not self.next_act():
            raise TheEnd

    def _begins(self, command: Command) -> bool:
        """Whether a run began with this step right after the one that is over."""
        following = self.script.acts[self.act_number + 1 : self.act_number + 2]
        return any(act.lines and act.lines[0].step == command.step for act in following)

    def _otherwise(self, line: Line | None, command: Command, places: tuple[Place, ...]) -> Line:
        """A step that is not the next one: finished before, or the first difference."""
        if command.key in self.results:
            return self.results[command.key or ""]
        if line is not None:
            said = f"{line.step} was called here then, and {command.step} is called now"
            if line.step == command.step:
                said = f"{line.step} had the key {line.key} then, and has {command.key} now"
            raise Diverged(Difference("step", said, line, command, places))
        if self.next_act():
            raise Interrupted
        if self.script.outcome is None:
            raise TheEnd
        said = f"the refund was over here, and {command.step} is called now"
        raise Diverged(Difference("added", said, None, command, places))

    def _compare(
        self, task: Task[..., Any], line: Line, command: Command, places: tuple[Place, ...]
    ) -> None:
        if line.inputs == command.inputs:
            return
        then = {name: _as_today(task, name, value) for name, value in line.inputs.items()}
        if then != command.inputs:
            said = f"{line.step} was given other inputs then"
            raise Diverged(Difference("inputs", said, line, command, places))

    def _answer(
        self, task: Task[..., Any], line: Line, command: Command, places: tuple[Place, ...]
    ) -> Any:
        if line.error is not None:
            self.raised = _error(line.error)
            raise self.raised
        try:
            return self._value(task, line.output)
        except (ValidationError, errors.BadInput) as error:
            said = f"today's code cannot read what {line.step} returned then: {error}"
            raise Diverged(Difference("output", said, line, command, places)) from error

    def _value(self, task: Task[..., Any], output: Any) -> Any:
        if isinstance(output, dict) and journal.POLICY in output:
            return self.policy(output[journal.POLICY])
        return _returned(task).validate_python(output)

    def policy(self, version: str) -> Policy:
        """The policy of that version. Raises BadInput when its text is not in the document."""
        if version not in self.script.policies:
            raise errors.BadInput(f"the text of policy {version} is not in the document")
        return _parsed(self.script.policies[version])

    def _places(self, frame: FrameType | None) -> tuple[Place, ...]:
        found = []
        while frame is not None:
            shown = self.stage.files.get(frame.f_code.co_filename)
            if shown is not None:
                found.append(Place(shown, frame.f_lineno, frame.f_code.co_name))
            frame = frame.f_back
        return tuple(found)


def _command(task: Task[..., Any], args: tuple[Any, ...], named: dict[str, Any]) -> Command:
    bound = _signature(task).bind(*args, **named)
    bound.apply_defaults()
    parameters = dict(bound.arguments)
    # The key functions look at the task's name and the parameters only.
    context: Any = _Context(task)
    key = task.cache_key_fn(context, parameters) if task.cache_key_fn else None
    return Command(task.name, key, {n: journal.plain(value) for n, value in parameters.items()})


@dataclass(frozen=True)
class _Context:
    task: Task[..., Any]


@lru_cache(maxsize=64)
def _signature(task: Task[..., Any]) -> inspect.Signature:
    return inspect.signature(task.fn)


@lru_cache(maxsize=64)
def _hints(task: Task[..., Any]) -> dict[str, Any]:
    return typing.get_type_hints(task.fn)


@lru_cache(maxsize=64)
def _returned(task: Task[..., Any]) -> TypeAdapter[Any]:
    return TypeAdapter(_hints(task)["return"])


@lru_cache(maxsize=256)
def _parameter(task: Task[..., Any], name: str) -> TypeAdapter[Any]:
    return TypeAdapter(_hints(task)[name])


@lru_cache(maxsize=64)
def _parsed(text: str) -> Policy:
    return policy_file.parse(text, "the history's policy")


def _as_today(task: Task[..., Any], name: str, value: Any) -> Any:
    """A recorded input as today's values have it: a field that was added since has its default."""
    if isinstance(value, dict) and journal.POLICY in value:
        return value
    try:
        return journal.plain(_parameter(task, name).validate_python(value))
    except (KeyError, ValidationError):
        return value


def _error(described: dict[str, Any]) -> BaseException:
    """The error of then: one of ours is built again from its fields."""
    kind = getattr(errors, described["kind"], None)
    if isinstance(kind, type) and issubclass(kind, errors.RefundError):
        fields = (tuple(f) if isinstance(f, list) else f for f in described["fields"])
        return kind(*fields)
    return FailedThen(f"{described['kind']}: {described['message']}")
