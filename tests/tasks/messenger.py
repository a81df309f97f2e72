"""A messenger that stands in for Slack and the like."""

from prefect.blocks.abstract import NotificationBlock
from pydantic import PrivateAttr


class Messenger(NotificationBlock):
    """A messenger with a memory, which can be told how its next message ends."""

    _block_type_slug = "messenger"

    _messages: list[str] = PrivateAttr(default_factory=list)
    _fails: Exception | None = PrivateAttr(default=None)
    _hears: bool = PrivateAttr(default=True)

    async def notify(self, body: str, subject: str | None = None) -> None:
        if self._hears:
            self._messages.append(f"{subject}\n{body}")
        if self._fails is not None:
            raise self._fails
