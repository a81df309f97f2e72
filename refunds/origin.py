"""From where something was done."""

from typing import Self

from refunds.values import Value


class Origin(Value):
    """From where something was done: the door, and what it knows of the other side."""

    channel: str
    ip: str = ""
    user_agent: str = ""

    @classmethod
    def of(cls, channel: str, ip: str = "", user_agent: str = "") -> Self:
        """An origin from what a client says of itself: unseen characters go, the rest is cut."""
        return cls(
            channel="".join(filter(str.isprintable, channel))[:32],
            ip="".join(filter(str.isprintable, ip))[:64],
            user_agent="".join(filter(str.isprintable, user_agent))[:256],
        )
