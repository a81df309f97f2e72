"""What people read: the facts of an approval, cards and notices. Hostile input is quoted."""

import re
from decimal import Decimal
from typing import Any

from refunds import money
from refunds.models import ApprovalRequest, Case, Level, Outcome

# Enough of a customer's message to judge by on a card; the whole of it is in the history.
_QUOTED_CHARACTERS = 1_500

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~&:/@=$\"'])")

# Prefect's UI makes links of bare addresses even where each sign is escaped. A character without
# width between the parts keeps them from being addresses.
_ADDRESS = re.compile(r"(https?|www|(?=@))", re.IGNORECASE)
_APART = r"\1" + "\N{WORD JOINER}"


def escaped(text: str) -> str:
    """Text that markdown shows as it is: nothing in it becomes a link, an image or markup."""
    return _MARKDOWN.sub(r"\\\1", _ADDRESS.sub(_APART, " ".join(text.split())))


def quoted(text: str) -> str:
    """A customer's words as a markdown quotation."""
    cut = text[:_QUOTED_CHARACTERS] + (" …" if len(text) > _QUOTED_CHARACTERS else "")
    lines = cut.splitlines() or [""]
    return "\n".join(f"> {escaped(line)}" for line in lines)


def facts_markdown(facts: dict[str, Any], reasons: list[dict[str, Any]], digest: str) -> str:
    """Every fact an approval binds, as markdown: a table, the items, the customer's words."""
    amount = money.show(facts["amount_minor"], facts["currency"])
    goodwill = money.show(facts["goodwill_minor"], facts["currency"])
    rows = [
        ("Refund", facts["refund_id"]),
        ("Amount", amount),
        ("Goodwill coupon", goodwill if facts["goodwill_minor"] else "none"),
        ("Goes to", facts["refund_to"]),
        ("Charge", facts["charge_id"] or "none"),
        ("Kind", f"{facts['kind']}: {facts['reason']}"),
        ("Order", f"{facts['order_id']} ({facts['order_status']})"),
        ("Customer", facts["customer_id"]),
        ("Asked by", facts["requested_by"] or "the customer"),
        ("Policy", facts["policy_version"]),
        ("Digest", digest),
    ]
    table = "\n".join(f"| {name} | {escaped(str(value))} |" for name, value in rows)
    items = "\n".join(
        f"- {escaped(item['name'])} ({escaped(item['item_id'])}), "
        f"{money.show(item['price_minor'], facts['currency'])}"
        for item in facts["items"]
    )
    why = "\n".join(f"- {escaped(reason['text'])}" for reason in reasons)
    earlier = "\n".join(
        f"- {escaped(record['kind'])} {escaped(record['status'])}: "
        f"{money.show(record['amount_minor'], facts['currency'])} {escaped(record['note'])}"
        for record in facts["after_sales"]
    )
    parts = [
        f"| What | Value |\n|---|---|\n{table}",
        f"**Items**\n\n{items or '- none'}",
        f"**Why a person is asked**\n\n{why or '- nothing was found'}",
        f"**Earlier after-sale records of this order**\n\n{earlier or '- none'}",
    ]
    if facts.get("evidence"):
        added = "\n".join(f"- {escaped(text)}" for text in facts["evidence"])
        parts.append(f"**Added while it waited**\n\n{added}")
    if facts["opinion"]:
        parts.append(f"**A model's opinion** (advice, not a decision): {_said(facts['opinion'])}")
    parts.append(
        f"**The customer wrote** (a quotation, not an instruction)\n\n{quoted(facts['message'])}"
    )
    return "\n\n".join(parts)


def _said(opinion: dict[str, Any]) -> str:
    """A model's opinion in one line; its reasons stand among those of the verdict."""
    if "missing" in opinion:
        return f"none: {escaped(opinion['missing'])}"
    noticed = escaped(", ".join(opinion["signals"])) or "nothing"
    return (
        f"{escaped(opinion['recommendation'])}, {opinion['confidence_percent']} % sure; it "
        f"noticed {noticed} ({escaped(opinion['model'])}, prompt "
        f"{escaped(opinion['prompt_version'])})"
    )


def form_text(approval: ApprovalRequest, refusals: tuple[str, ...], timeline: str = "") -> str:
    """What stands above the Resume form: every fact that is bound, and answers not taken."""
    reasons = [reason.plain() for reason in approval.reasons]
    notes = [f"**Not taken:** {escaped(refusal)}" for refusal in refusals]
    if approval.people_needed > 1:
        notes.append(f"{approval.people_needed} different people have to approve.")
    if approval.verified_needed:
        notes.append(
            "This amount needs an approver whose identity is checked: an approval typed here "
            "does not count. Use `refunds decide` or the service."
        )
    facts = facts_markdown(approval.facts, reasons, approval.digest)
    deadline = f"The question expires {approval.deadline:%Y-%m-%d %H:%M} UTC."
    link = f" [Its timeline]({timeline}) shows what happened so far." if timeline else ""
    return "\n\n".join([*notes, facts, deadline + link])


def run_name(case: Case) -> str:
    """What the list of waiting runs shows: refund, amount and need."""
    request = case.request
    return f"{request.refund_id} · {money.show(request.amount_minor, request.currency)} · approve?"


def card(approval: ApprovalRequest, level: Level) -> dict[str, str]:
    """Subject and body of the card for one level."""
    facts = approval.facts
    amount = money.show(facts["amount_minor"], facts["currency"])
    urgent = "" if level == approval.levels[0] else "Escalated: "
    reasons = [reason.plain() for reason in approval.reasons]
    return {
        "subject": f"{urgent}approve {amount} for {approval.refund_id}?",
        "body": facts_markdown(facts, reasons, approval.digest)
        + f"\n\nAnswer by {approval.deadline:%Y-%m-%d %H:%M} UTC.",
    }


def customer_notice(case: Case, outcome: Outcome) -> tuple[str, str]:
    """(subject, body) of what the customer is told; rules and risk are not mentioned."""
    request = case.request
    amount, place = money.show(request.amount_minor, request.currency), _place(case)
    body = {
        Outcome.PAID: f"We refunded {amount} to {place}.",
        Outcome.REJECTED: f"We could not refund {amount} for order {request.order_id}.",
        Outcome.EXPIRED: f"Your refund request for order {request.order_id} was not decided in "
        "time. Nothing was paid. Please get in touch, and we will look at it again.",
        Outcome.FAILED: f"The refund of {amount} to {place} did not go through. "
        "Customer service will get in touch about another way.",
    }[outcome]
    return f"Your refund for order {request.order_id}", body


def _place(case: Case) -> str:
    """Where the money goes in a customer's words: the shop's own ids mean nothing to them."""
    refund_to = case.request.refund_to
    kind = case.order.payment_methods.get(refund_to) if case.order else None
    return f"your {kind.replace('_', ' ')}" if kind else refund_to


def service_notice(case: Case, outcome: Outcome, why: str) -> tuple[str, str]:
    """(subject, body) of what customer service is told."""
    request = case.request
    amount = money.show(request.amount_minor, request.currency)
    subject = f"{request.refund_id}: {outcome.lower()}"
    body = f"{request.kind} of {amount} for order {request.order_id}, {request.customer_id}. {why}"
    return subject, body


def opinion_line(response: dict[str, Any]) -> str:
    """What a model said, by which prompt, and what that took."""
    said = f"no opinion: {response.get('missing')}"
    if "recommendation" in response:
        said = f"{response['recommendation']}, {response['confidence_percent']} % sure"
        said += f"; noticed {', '.join(response['signals'])}" if response["signals"] else ""
    if usage := response.get("usage"):
        # Costs are counted in millionths.
        cost = Decimal(usage["cost_micro"]).scaleb(-6)
        said += f"; {usage['input_count']} + {usage['output_count']} tokens, "
        said += f"{cost:f} {usage['currency']}"
    return f"model {response['model']} (prompt {response['prompt_version']}): {said}"
