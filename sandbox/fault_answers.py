"""What a client sees of a fault: an error, a broken body or a broken connection."""

from starlette.responses import Response

from sandbox.answers import Answer
from sandbox.dialects import Dialect
from sandbox.fault_rules import (
    ErrorAfter,
    ErrorBefore,
    Malformed,
    RateLimited,
    ResetAfter,
    ResetBefore,
    Rule,
    Slow,
    TimeoutAfter,
    Unauthorized,
)
from sandbox.wire import CutOff, HeldThenClosed, Reset

# Broken where a reader notices only at the end.
_BROKEN_JSON = b'{"id":"'


def answer_without_act(dialect: Dialect, fault: Rule) -> Response:
    """Return what `fault` answers in place of an act."""
    match fault:
        case ErrorBefore(status=status):
            return dialect.trouble(status).response()
        case RateLimited(retry_after_seconds=seconds):
            return dialect.rate_limited(seconds).response()
        case Unauthorized():
            return dialect.unauthorized().response()
        case ResetBefore():
            return Reset()
        case _:
            raise NotImplementedError(fault)


def answer_after_act(dialect: Dialect, fault: Rule | None, answer: Answer) -> Response:
    """Return what becomes of the true `answer` under `fault`."""
    match fault:
        case None | Slow():
            return answer.response()
        case ErrorAfter(status=status):
            return dialect.trouble(status).response()
        case TimeoutAfter(seconds=seconds):
            return HeldThenClosed(seconds)
        case ResetAfter():
            return CutOff(answer)
        case Malformed():
            return Answer(200, _BROKEN_JSON).response()
        case _:
            raise NotImplementedError(fault)
