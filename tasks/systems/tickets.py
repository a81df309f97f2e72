"""What a ticket says of a refund, in any help desk."""

from typing import Any

from refunds import money
from tasks.systems.contract import Thing


def subject(thing: Thing) -> str:
    """The ticket's one line."""
    facts = thing.content
    return f"Refund {facts['refund_id']}: {facts['outcome']}"


def body(thing: Thing) -> str:
    """The ticket's text: the facts, a line each."""
    facts: dict[str, Any] = thing.content
    lines = {
        "Outcome": facts["outcome"],
        "Amount": money.show(facts["amount_minor"], facts["currency"]),
        "Order": facts["order_id"],
        "Customer": facts["customer_id"],
        "Why": facts["note"],
        "Reference": thing.key,
    }
    return "\n".join(f"{name}: {value}" for name, value in lines.items())
