"""The gateway and the other systems, asked without changing anything."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from email.utils import parsedate_to_datetime

import httpx

from refunds import answer, prompt, systems_mapping
from refunds.clock import system_clock
from refunds.doctor.findings import Unwell
from refunds.errors import BadInput, NeedsAttention, StepFailed, StepRefused, SystemUnavailable
from refunds.ledger import outages as ledger_outages
from refunds.settings import SYSTEMS, Settings, settings
from tasks import books, chat, gateways, http, secrets, systems
from tasks.effect import cannot_ask
from tasks.systems.contract import Thing

# Who notices are for.
_AUDIENCES = ("customer", "service", "approver", "operations")

OTHERS = ("crm", "coupons", "logistics", "notices")

# What each is asked for; of logistics' two kinds the first.
_COLLECTIONS = {"crm": "cases", "coupons": "coupons", "logistics": "holds"}

# Longer than any healthy system takes; the doctor's patient waits beside it.
_ANSWER_SECONDS = 10.0
# As long as the policy lets a question take by default.
_OPINION_SECONDS = 30.0
# Deadlines and the gateway's own timestamps are compared in minutes; Stripe's signatures
# are refused beyond five.
_SKEW_SECONDS = 300.0


async def gateway() -> str:
    """It answers, and takes our key."""
    if settings().gateway_adapter != "stripe":
        return await _answers_by_its_adapter()
    reply = await _ask_gateway()
    if reply.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        raise Unwell(f"it refuses the key ({reply.status_code})", "set REFUNDS_GATEWAY_KEY")
    if not reply.is_success:
        raise Unwell(
            f"{_shown('gateway')} answered {reply.status_code}",
            "it must speak Stripe's refund API under REFUNDS_GATEWAY_URL",
        )
    return _shown("gateway")


async def _answers_by_its_adapter() -> str:
    """A payment that nobody made is looked for: that it is not there is an answer."""
    try:
        await gateways.gateway().find("refunds-doctor", "refunds-doctor")
    except StepRefused:
        pass
    except StepFailed as error:
        raise Unwell(str(error), "set REFUNDS_GATEWAY_URL and REFUNDS_GATEWAY_KEY") from error
    finally:
        await http.close()
    return f"{_address('gateway')}, as {settings().gateway_adapter}"


def mappings() -> str:
    """The file of the systems that are mapped, and the channels of the notices."""
    current = settings()
    mapped = [s for s in ("coupons", "logistics") if getattr(current, f"{s}_adapter") == "mapped"]
    if mapped:
        path = current.systems_mapping
        if path is None:
            raise Unwell(f"{' and '.join(mapped)} mapped by no file", "set REFUNDS_SYSTEMS_MAPPING")
        try:
            found = systems_mapping.read(path)
        except BadInput as error:
            raise Unwell(str(error), "correct the file; docs/connect.md explains it") from error
        kinds = {"coupons": ("coupons",), "logistics": ("holds", "labels")}
        wanted = [kind for system in mapped for kind in kinds[system]]
        if missing := [kind for kind in wanted if getattr(found, kind) is None]:
            raise Unwell(f"{path} has no {', '.join(missing)}", "add what is missing to it")
    if current.notices_adapter == "apprise":
        lacking = [name for name in _AUDIENCES if name not in current.notices_channels]
        if lacking:
            remedy = "give each an Apprise address in REFUNDS_NOTICES_CHANNELS"
            raise Unwell(f"no channel for {', '.join(lacking)}", remedy)
    return ", ".join(f"{s} as {getattr(current, f'{s}_adapter')}" for s in SYSTEMS)


def outages() -> str:
    """Systems that count as away, so that refunds wait for them."""
    away = ledger_outages.every(books.ledger())
    if away:
        raise Unwell(
            "; ".join(f"{outage.system} is {outage}" for outage in away),
            "look into that system; refunds wait for it and go on by themselves",
        )
    return "none"


async def clock() -> str:
    """This machine's clock against the gateway's."""
    if settings().gateway_adapter != "stripe":
        return "the gateway checks the time of its own signatures"
    reply = await _ask_gateway()
    now = system_clock()
    try:
        theirs: datetime = parsedate_to_datetime(reply.headers["Date"])
    except (KeyError, ValueError):
        return "the gateway does not say what time it has"
    skew_seconds = abs((now - theirs).total_seconds())
    seen = f"{skew_seconds:.0f} s from the gateway's"
    if skew_seconds > _SKEW_SECONDS:
        raise Unwell(seen, "set this machine's clock, best by a time service")
    return seen


async def webhook_secret() -> str:
    """The sandbox's secret is printed in this repository."""
    if settings().webhook_secret_block:
        await _secret("webhook_secret")
        return f"in Prefect's Secret block {settings().webhook_secret_block}"
    default = Settings.model_fields["webhook_secret"].default.get_secret_value()
    is_sandbox = _address("gateway").startswith(settings().sandbox_url)
    if settings().webhook_secret.get_secret_value() != default:
        return "set"
    if not is_sandbox:
        raise Unwell(
            "the sandbox's, while the gateway is another",
            "set REFUNDS_WEBHOOK_SECRET to the one that the gateway signs with",
        )
    return "the sandbox's, like the gateway"


async def model() -> str:
    """It answers a made-up question in the form that we ask for; that costs a cent at most."""
    if not settings().model_url:
        return "none: the rules alone decide"
    seen = f"{_shown('model')}, {settings().asked_model}"
    try:
        reply = await chat.chat(
            prompt.INSTRUCTIONS,
            f'{prompt.OPENING}{{"customer_message": {{"text": ""}}}}{prompt.CLOSING}',
            key=await _secret("model_key"),
            answer_within_seconds=_OPINION_SECONDS,
        )
        answer.read(reply.text)
    except (chat.NoReply, answer.NotAnAnswer) as error:
        raise Unwell(
            f"{seen}: {error}",
            "correct REFUNDS_MODEL_URL, …_NAME or …_KEY; until then what it would be asked about "
            "goes to a person",
        ) from error
    finally:
        await chat.close()
    return f"{seen}, answers with prompt {prompt.VERSION}"


def answers(system: str) -> Callable[[], Awaitable[str]]:
    """The check that a system can be reached, and where it can be asked, that it takes our key."""

    async def look() -> str:
        if system == "notices" and settings().notices_adapter == "apprise":
            return "Apprise channels cannot be asked"
        if seen := await _asked(system):
            return seen
        reply = await _get(system, _address(system))
        if reply.is_server_error:
            raise Unwell(
                f"{_shown(system)} answered {reply.status_code}", "look into that system's log"
            )
        return _shown(system)

    return look


async def _asked(system: str) -> str | None:
    """A product is asked for a thing that nobody made; None where it cannot be asked."""
    current = settings()
    product = getattr(current, f"{system}_adapter")
    if product == "plain":
        return None
    nothing = Thing("refunds-doctor", "doctor", system, _COLLECTIONS[system], {}, id_field="")
    try:
        action = systems.adapter(system).making(nothing)
        if action.ask is cannot_ask:
            return None
        await action.ask(action.key)
    except (StepFailed, NeedsAttention) as error:
        remedy = f"set REFUNDS_{system.upper()}_URL and REFUNDS_{system.upper()}_KEY"
        raise Unwell(str(error), remedy) from error
    finally:
        await http.close()
    return f"{_shown(system)}, as {product}, takes the key"


async def _secret(name: secrets.SecretName) -> str:
    try:
        return await secrets.secret(name)
    except (NeedsAttention, SystemUnavailable) as error:
        raise Unwell(
            str(error),
            f"make the block in the Prefect UI, or set REFUNDS_{name.upper()} without one",
        ) from error


def _address(system: str) -> str:
    return settings().system_url(system)


def _shown(system: str) -> str:
    """Where a system is, without what its address may keep secret: user, path and query."""
    url = httpx.URL(_address(system))
    return f"{url.scheme}://{url.netloc.decode()}"


async def _ask_gateway() -> httpx.Response:
    key = await _secret("gateway_key")
    url = f"{_address('gateway')}/v1/refunds?limit=1"
    return await _get("gateway", url, {"Authorization": f"Bearer {key}"})


async def _get(system: str, url: str, headers: dict[str, str] | None = None) -> httpx.Response:
    try:
        async with httpx.AsyncClient(timeout=_ANSWER_SECONDS) as client:
            return await client.get(url, headers=headers)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unwell(
            f"{_shown(system)} does not answer ({type(error).__name__})",
            f"`refunds up` starts the sandbox's; another is named in REFUNDS_{system.upper()}_URL",
        ) from error
