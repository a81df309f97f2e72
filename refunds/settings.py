"""Where everything is: read from `REFUNDS_…` variables, with embedded defaults.

`REFUNDS_HOME` (default `.refunds`) holds all embedded state; two homes are two worlds.
`REFUNDS_PORT` (default 4200) is Prefect's; the service is at +1, the sandbox at +2.
"""

import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from refunds import home_secrets
from refunds.errors import BadInput
from refunds.values import Name

# What `REFUNDS_PREFECT_AUTH` says where nobody is to be asked for a password.
_OPEN = "off"

SYSTEMS = ("gateway", "crm", "coupons", "logistics", "notices")


class Limit(BaseModel):
    """How much one system is sent, by all processes together."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at_once: Annotated[int, Field(ge=1, le=10_000)] | None = None
    per_second: Annotated[float, Field(gt=0, le=10_000)] | None = None


class Settings(BaseSettings):
    """The whole configuration. Empty addresses mean the embedded stack's own."""

    # What stands in a wrong variable, and in those beside it, may be a secret.
    model_config = SettingsConfigDict(env_prefix="REFUNDS_", frozen=True, hide_input_in_errors=True)

    home: Path = Path(".refunds")
    port: Annotated[int, Field(ge=1024, le=65_000)] = 4200
    policy: Path | None = None

    # How long a night's batch may take, in hours: begun at two, it is through before work begins.
    night_hours: Annotated[int, Field(ge=1, le=24)] = 6
    # So many new requests at once are carried together by one run; fewer get a run each, which
    # is quicker for a single one.
    batch_from: Annotated[int, Field(ge=2)] = 10

    # So many runs woken at the same time start each for itself, which is quickest for each; what is
    # decided before they have started is carried by one run. Each costs a second of processor time.
    burst_from: Annotated[int, Field(ge=0)] = 3

    # A batch of more refunds than this is shared out to several runs. One carries as many in some
    # five minutes, beside which the seconds that a further run costs to start are nothing.
    shard_size: Annotated[int, Field(ge=1)] = 5_000

    # What serves the work pool: "warm-process" or Prefect's own "process". Empty is what the pool
    # is, and warm where there is none yet.
    worker_type: Literal["", "warm-process", "process"] = ""

    ledger_url: SecretStr = SecretStr("")
    shop_url: SecretStr = SecretStr("")
    # A prefect-sqlalchemy connector block of your own, in place of the address.
    shop_block: str = ""
    prefect_database_url: SecretStr = SecretStr("")
    # What the embedded Prefect API asks for, as `user:password`. Empty: what `refunds up` made
    # for this home; `off`: nothing.
    prefect_auth: SecretStr = SecretStr("")

    gateway_url: str = ""
    crm_url: str = ""
    coupons_url: str = ""
    logistics_url: str = ""
    notices_url: str = ""
    # Empty: the rules alone decide. "sandbox" is the sandbox's stand-in for a model.
    model_url: str = ""

    # What speaks behind each address; docs/connect.md says what each adapter needs.
    gateway_adapter: Literal["stripe", "paypal"] = "stripe"
    crm_adapter: Literal["plain", "zendesk", "hubspot", "webhook"] = "plain"
    coupons_adapter: Literal["plain", "mapped"] = "plain"
    logistics_adapter: Literal["plain", "mapped"] = "plain"
    notices_adapter: Literal["plain", "apprise"] = "plain"
    # The file for adapters that are mapped, and the one for the shop's own tables.
    systems_mapping: Path | None = None
    shop_mapping: Path | None = None
    # Such as {"gateway": {"at_once": 20, "per_second": 80}}.
    limits: dict[str, Limit] = Field(default_factory=dict)

    gateway_key: SecretStr = SecretStr("sk_test_sandbox")
    # Several, separated by commas, while one replaces another: any of them is taken.
    webhook_secret: SecretStr = SecretStr("whsec_sandbox")
    # A server on one's own machine asks for none, and OpenAI's client insists on some word.
    model_key: SecretStr = SecretStr("none")
    # Prefect Secret blocks to read in place of the three above.
    gateway_key_block: str = ""
    webhook_secret_block: str = ""
    model_key_block: str = ""

    # What the model's server calls it; for a server of your own there is no default.
    model_name: Name | Literal[""] = ""
    # How many questions a process has under way; what is more waits its turn.
    model_at_once: Annotated[int, Field(ge=1, le=1_000)] = 8
    # Signs the links in cards: the newest first, then those whose links are still on their way.
    # Empty is a secret that the embedded stack makes for itself.
    link_secret: SecretStr = SecretStr("")
    # What lets us in: a bearer token, for Zendesk `user/token:token`, for a webhook what signs it.
    crm_key: SecretStr = SecretStr("")
    coupons_key: SecretStr = SecretStr("")
    logistics_key: SecretStr = SecretStr("")
    crm_key_block: str = ""
    coupons_key_block: str = ""
    logistics_key_block: str = ""
    # An Apprise address for each audience: customer, service, approver, operations.
    notices_channels: dict[str, SecretStr] = Field(default_factory=dict)

    @field_validator("limits")
    @classmethod
    def _systems_are_ours(cls, limits: dict[str, Limit]) -> dict[str, Limit]:
        for system in limits:
            if system not in SYSTEMS:
                raise ValueError(f"{system!r} is no system; there are {', '.join(SYSTEMS)}")
        return limits

    # Where people reach the service and the Prefect UI; they appear as links in cards.
    public_url: str = ""
    # Further names under which the service is reached, separated by commas.
    service_hosts: str = ""
    # Signs what the service hands out and takes back. Empty: made for this home.
    service_secret: SecretStr = SecretStr("")

    # The company's own sign-in (OpenID Connect); empty: passwords of ours.
    oidc_issuer: str = ""
    oidc_client_id: str = ""
    oidc_client_secret: SecretStr = SecretStr("")

    @model_validator(mode="after")
    def _model_has_a_name(self) -> Self:
        if self.model_url and not self.model_name and not self.is_sandbox_model:
            raise ValueError("REFUNDS_MODEL_URL is set: name the model in REFUNDS_MODEL_NAME")
        return self

    def secret_texts(self) -> Iterator[str]:
        """Every secret among the settings, as it stands there."""
        for name in type(self).model_fields:
            value = getattr(self, name)
            for secret in value.values() if isinstance(value, dict) else (value,):
                if isinstance(secret, SecretStr):
                    yield secret.get_secret_value()
        yield from (url for url in map(self.system_url, SYSTEMS) if "@" in url)
        if self.crm_adapter == "webhook":
            # Who knows a webhook's address may send to it.
            path = urlsplit(self.crm_url).path
            yield from (self.crm_url, path, path.rpartition("/")[2])

    @property
    def asked_model(self) -> str:
        """What the model is called, in requests and in histories."""
        return self.model_name or "stand-in"

    @property
    def is_sandbox_model(self) -> bool:
        """Whether the model is the sandbox's stand-in."""
        return self.model_url == "sandbox"

    @property
    def home_dir(self) -> Path:
        """The state directory, absolute."""
        return self.home.expanduser().absolute()

    @property
    def service_secret_text(self) -> str:
        """What the service signs with: given, or this home's own, made when first asked for."""
        given = self.service_secret.get_secret_value()
        return given or home_secrets.keep(self.home_dir / "service-secret")

    @property
    def prefect_url(self) -> str:
        """The embedded Prefect server's address, without `/api`."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def prefect_api_url(self) -> str:
        """The Prefect API in use: `PREFECT_API_URL` where it is set, else the embedded one."""
        return os.environ.get("PREFECT_API_URL") or f"{self.prefect_url}/api"

    @property
    def prefect_auth_file(self) -> Path:
        """Where this home keeps what its Prefect API asks for."""
        return self.home_dir / "prefect-auth"

    @property
    def embedded_auth_string(self) -> str:
        """`user:password` of the embedded Prefect API; empty when it asks for nothing."""
        given = self.prefect_auth.get_secret_value()
        if given == _OPEN:
            return ""
        # Prefect's own name for it counts as well.
        given = given or os.environ.get("PREFECT_SERVER_API_AUTH_STRING", "")
        return given or home_secrets.kept(self.prefect_auth_file)

    @property
    def prefect_auth_string(self) -> str:
        """`user:password` for the Prefect API in use; another server never gets this home's."""
        given = os.environ.get("PREFECT_API_AUTH_STRING")
        if given is not None:
            return given
        is_ours = self.prefect_api_url.rstrip("/") == f"{self.prefect_url}/api"
        return self.embedded_auth_string if is_ours else ""

    def make_prefect_auth(self) -> None:
        """Make what the embedded Prefect API asks for, unless it is given, known or off."""
        if not self.embedded_auth_string and self.prefect_auth.get_secret_value() != _OPEN:
            home_secrets.keep(
                self.prefect_auth_file, lambda: f"refunds:{home_secrets.random_text()}"
            )

    @property
    def service_url(self) -> str:
        """The service's address."""
        return self.public_url or f"http://127.0.0.1:{self.port + 1}"

    @property
    def sandbox_url(self) -> str:
        """The sandbox's address."""
        return f"http://127.0.0.1:{self.port + 2}"

    def system_url(self, system: str) -> str:
        """The base address of gateway, crm, coupons, logistics, notices or model."""
        if system == "model" and self.is_sandbox_model:
            return f"{self.sandbox_url}/model/v1"
        return str(getattr(self, f"{system}_url") or f"{self.sandbox_url}/{system}").rstrip("/")

    @property
    def ledger_database_url(self) -> str:
        """SQLAlchemy URL of the ledger."""
        return self.ledger_url.get_secret_value() or f"sqlite:///{self.home_dir}/ledger.db"

    @property
    def shop_database_url(self) -> str:
        """SQLAlchemy URL of the shop's database, which we only read."""
        return self.shop_url.get_secret_value() or f"sqlite:///{self.home_dir}/sandbox/shop.db"


@lru_cache(maxsize=1)
def settings() -> Settings:
    """This process's settings. Raises BadInput naming the variable that is wrong."""
    try:
        return Settings()
    except ValidationError as error:
        wrong = "; ".join(
            ": ".join(filter(None, (_variable(e["loc"]), e["msg"].removeprefix("Value error, "))))
            for e in error.errors(include_input=False)
        )
        raise BadInput(f"settings are wrong: {wrong}") from error
    except SettingsError as error:
        # Its cause holds the whole text, which may be a secret.
        field = next((name for name in Settings.model_fields if f'"{name}"' in str(error)), "")
        variable = _variable((field,)) if field else "a variable"
        raise BadInput(f"settings are wrong: {variable}: is no JSON object") from None


def _variable(place: tuple[int | str, ...]) -> str:
    return f"REFUNDS_{'_'.join(map(str, place)).upper()}" if place else ""
