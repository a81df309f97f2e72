"""Notices by Apprise: one address for each audience."""

from typing import Any
from urllib.parse import quote

from refunds.errors import NeedsAttention
from refunds.settings import settings
from tasks import apprise_channel
from tasks.effect import Action, cannot_ask
from tasks.systems.contract import Thing, Undoing, never_undone


class AppriseNotices:
    """A message to the audience's channel; `{to}` in the address is who it is for."""

    def making(self, thing: Thing) -> Action:
        """Send the message."""

        async def send(_wire_key: str) -> dict[str, Any]:
            facts = thing.content
            text = "\n\n".join(filter(None, (facts["body"], facts.get("link"), thing.key)))
            address = _address(facts["audience"], facts["to"])
            await apprise_channel.notify(thing.system, address, facts["subject"], text)
            return thing.kept(thing.key)

        return thing.action(send, cannot_ask)

    def undoing(self, undo: Undoing) -> Action:
        """A message is never undone."""
        return never_undone(undo)


def _address(audience: str, to: str) -> str:
    channel = settings().notices_channels.get(audience)
    if channel is None:
        raise NeedsAttention(f"notices: REFUNDS_NOTICES_CHANNELS has no address for {audience!r}")
    return channel.get_secret_value().replace("{to}", quote(to, safe=""))
