"""Any of the channels that Apprise knows: mail, chat, SMS, push.

A channel cannot be asked what it has sent, and most tell a failure from a success only by hearsay.
So a message that is not certain to have gone out is sent once more, and may arrive twice; each
one carries the refund's id, so that a reader can tell.
"""

import logging

from refunds.errors import NeedsAttention, StepUnknown

# Apprise logs addresses with what is secret in them when it cannot send.
logging.getLogger("apprise").setLevel(logging.CRITICAL)


async def notify(system: str, address: str, title: str, body: str) -> None:
    """Send one message. Raises StepUnknown (it may have gone out) or NeedsAttention (no channel).

    The address is a secret and stays out of every message.
    """
    from apprise import Apprise

    channel = Apprise()
    if not channel.add(address):
        raise NeedsAttention(f"{system}: Apprise does not know this kind of address")
    if not await channel.async_notify(title=title, body=body):
        raise StepUnknown(system, "Apprise could not say that it was sent")
