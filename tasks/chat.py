"""A chat with any server that speaks OpenAI's API: one question, one text, or why there is none."""

import asyncio
import json
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import openai
from openai import AsyncOpenAI
from pydantic import BaseModel, Field, ValidationError

from refunds import answer
from refunds.errors import RefundError
from refunds.settings import settings

# A server that is busy for a moment gets two more chances, with the pauses that it asks for; the
# policy's `answer_within_seconds` ends them all.
_RETRIES = 2

# Ten times a full answer; what a model thinks before it answers counts as well.
_MOST_TOKENS = 4_000

# A reply around an answer of the longest kind; more is refused before it is parsed.
_REPLY_BYTES = 1_000_000

# How to ask for structure, best first: servers refuse with 400 or 422 what they do not know.
_MANNERS: tuple[dict[str, Any], ...] = (
    {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "opinion", "strict": True, "schema": answer.SCHEMA},
        },
        "max_completion_tokens": _MOST_TOKENS,
    },
    {"response_format": {"type": "json_object"}, "max_tokens": _MOST_TOKENS},
    {},
)

# The manner that a server understood last, so that it is not refused each time.
_understood: dict[tuple[str, str], int] = {}

_clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, AsyncOpenAI]] = (
    weakref.WeakKeyDictionary()
)

_Tokens = Annotated[int, Field(ge=0, le=10**9)]


class NoReply(RefundError):
    """There is nothing to read. Fields: `why`, without any text of the server; `tokens`."""

    def __init__(self, why: str, tokens: tuple[int, int] | None = None) -> None:
        super().__init__(why, tokens)
        self.why = why
        self.tokens = tokens

    def __str__(self) -> str:
        return self.why


@dataclass(frozen=True)
class Reply:
    """What was answered, and the tokens in and out where the server counts them."""

    text: str
    tokens: tuple[int, int] | None


async def chat(
    instructions: str, question: str, *, key: str, answer_within_seconds: float
) -> Reply:
    """Ask once. Raises NoReply: refused, too slow, cut off, malformed or not reachable."""
    try:
        async with asyncio.timeout(answer_within_seconds):
            return await _ask(instructions, question, key, answer_within_seconds)
    except (TimeoutError, openai.APITimeoutError) as error:
        raise NoReply(f"no answer within {answer_within_seconds:g} s") from error
    except openai.APIStatusError as error:
        raise NoReply(
            _REFUSALS.get(error.status_code, f"it answered {error.status_code}")
        ) from error
    except openai.APIConnectionError as error:
        raise NoReply("it is not reachable") from error
    except openai.OpenAIError as error:
        raise NoReply(f"it cannot be asked ({type(error).__name__})") from error


_REFUSALS = {
    401: "it does not take the key (401)",
    403: "it does not let us in (403)",
    404: "it does not know the model, or the address is wrong (404)",
    429: "it asks to send less (429)",
}


async def _ask(instructions: str, question: str, key: str, timeout_seconds: float) -> Reply:
    server = (settings().system_url("model"), settings().asked_model)
    messages = [
        {"role": "system", "content": instructions},
        {"role": "user", "content": question},
    ]
    completions: Any = _client(server[0], key).chat.completions.with_raw_response
    for manner in range(_understood.get(server, 0), len(_MANNERS)):
        try:
            raw = await completions.create(
                model=server[1], messages=messages, timeout=timeout_seconds, **_MANNERS[manner]
            )
        except (openai.BadRequestError, openai.UnprocessableEntityError):
            if manner == len(_MANNERS) - 1:
                raise
            continue
        _understood[server] = manner
        return _reply(raw.content)
    raise AssertionError("the last manner answers or raises")


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(BaseModel):
    prompt_tokens: _Tokens
    completion_tokens: _Tokens


class _Completion(BaseModel):
    """The part of a chat completion that is read; servers add much of their own."""

    choices: Annotated[tuple[_Choice, ...], Field(min_length=1)]
    usage: Any = None


_CUT_SHORT = {"length": "its answer was cut off", "content_filter": "its answer was filtered"}


def _reply(body: bytes) -> Reply:
    if len(body) > _REPLY_BYTES:
        raise NoReply(f"its reply has {len(body):,} bytes")
    try:
        completion = _Completion.model_validate(json.loads(body))
    except (ValidationError, ValueError, RecursionError) as error:
        raise NoReply("its reply is not a chat completion") from error
    tokens, choice = _tokens(completion.usage), completion.choices[0]
    for why in _troubles(choice):
        raise NoReply(why, tokens)
    return Reply(choice.message.content or "", tokens)


def _troubles(choice: _Choice) -> Iterator[str]:
    if choice.message.refusal:
        yield "it refused to answer"
    if choice.finish_reason in _CUT_SHORT:
        yield _CUT_SHORT[choice.finish_reason]
    if not (choice.message.content or "").strip():
        yield "its answer is empty"


def _tokens(usage: Any) -> tuple[int, int] | None:
    try:
        counted = _Usage.model_validate(usage)
    except ValidationError:
        return None
    return counted.prompt_tokens, counted.completion_tokens


def _client(base_url: str, key: str) -> AsyncOpenAI:
    """This loop's one client of a server, with its pool of connections."""
    clients = _clients.setdefault(asyncio.get_running_loop(), {})
    if base_url not in clients or clients[base_url].api_key != key:
        # A server that asks for no key is sent a word that is none; without one the client
        # would take a key that happens to be in the environment.
        clients[base_url] = AsyncOpenAI(base_url=base_url, api_key=key, max_retries=_RETRIES)
    return clients[base_url]


async def close() -> None:
    """Close this loop's connections; called where a loop ends before its process does."""
    for client in _clients.pop(asyncio.get_running_loop(), {}).values():
        await client.close()
