"""CRM, coupons, logistics and notices: one adapter a file, chosen by `REFUNDS_…_ADAPTER`."""

from refunds.settings import settings
from tasks.systems.apprise import AppriseNotices
from tasks.systems.contract import Adapter
from tasks.systems.hubspot import HubSpot
from tasks.systems.mapped import Mapped
from tasks.systems.plain import Plain
from tasks.systems.webhook import Webhook
from tasks.systems.zendesk import Zendesk

ADAPTERS: dict[str, Adapter] = {
    "plain": Plain(),
    "zendesk": Zendesk(),
    "hubspot": HubSpot(),
    "webhook": Webhook(),
    "mapped": Mapped(),
    "apprise": AppriseNotices(),
}


def adapter(system: str) -> Adapter:
    """The adapter that the settings name for a system."""
    return ADAPTERS[getattr(settings(), f"{system}_adapter")]
