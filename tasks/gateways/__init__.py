"""Payment gateways: one adapter a file, chosen by `REFUNDS_GATEWAY_ADAPTER`."""

from functools import lru_cache

from refunds.settings import settings
from tasks.gateways.contract import Gateway, GatewayEvent, GatewayRefund, PaymentOrder
from tasks.gateways.paypal import PayPal
from tasks.gateways.stripe import Stripe

__all__ = ["Gateway", "GatewayEvent", "GatewayRefund", "PaymentOrder", "gateway"]

ADAPTERS: dict[str, type[Gateway]] = {"stripe": Stripe, "paypal": PayPal}


def gateway() -> Gateway:
    """The gateway that the settings name."""
    return _made(settings().gateway_adapter)


@lru_cache(maxsize=4)
def _made(name: str) -> Gateway:
    return ADAPTERS[name]()
