"""The shop's data files, `orders.jsonl` and `customers.jsonl`, read strictly.

The shapes are those of the retail data; the sandbox checks the same and what lies between
the records (an order's customer exists, no more refunded than paid).
"""

from typing import Annotated, Literal

from pydantic import Field

from refunds.intake import read_records
from refunds.values import AmountMinor, Currency, Name, Value, ZeroOrMoreMinor

# Printable ASCII without spaces covers all ids in use and keeps them safe in addresses.
ShopId = Annotated[str, Field(pattern=r"^[!-~]{1,200}$")]
ChargeId = Annotated[str, Field(pattern=r"^ch_[!-~]{1,197}$")]
Digits = Annotated[str, Field(pattern=r"^[0-9]{4}$")]
# Above the largest order of any shop.
_MOST_LINES = Field(max_length=500)


class ShopPaymentMethod(Value):
    """A way a customer pays; only a gift card has a balance, only a card a brand."""

    id: ShopId
    source: Literal["credit_card", "gift_card", "paypal"]
    brand: Name | None = None
    last_four: Digits | None = None
    balance: ZeroOrMoreMinor | None = None


class ShopCustomer(Value):
    """A customer, with their ways to pay and the ids of their orders."""

    customer_id: ShopId
    name: Name
    email: Name
    state: Name
    zip: Name
    payment_methods: Annotated[tuple[ShopPaymentMethod, ...], _MOST_LINES]
    orders: Annotated[tuple[ShopId, ...], Field(max_length=10_000)] = ()


class ShopAddress(Value):
    """Where an order goes."""

    state: Name
    zip: Name
    country: Name


class ShopItem(Value):
    """One unit on an order."""

    item_id: ShopId
    product_id: ShopId
    name: Name
    price_minor: AmountMinor
    options: Annotated[dict[Name, Name], Field(max_length=50)] = Field(default_factory=dict)


class ShopFulfillment(Value):
    """Parcels and the items in them."""

    tracking_id: Annotated[tuple[ShopId, ...], Field(min_length=1, max_length=500)]
    item_ids: Annotated[tuple[ShopId, ...], _MOST_LINES]


class ShopPayment(Value):
    """Money in or out; without `charge_id` it belongs to the order's own charge."""

    type: Literal["payment", "refund"]
    amount_minor: AmountMinor
    payment_method_id: ShopId
    charge_id: ChargeId | None = None


class ShopOrder(Value):
    """An order with its lines."""

    order_id: ShopId
    customer_id: ShopId
    status: Literal["pending", "processed", "delivered", "cancelled"]
    currency: Currency
    ship_to: ShopAddress
    items: Annotated[tuple[ShopItem, ...], Field(min_length=1, max_length=500)]
    fulfillments: Annotated[tuple[ShopFulfillment, ...], _MOST_LINES] = ()
    payments: Annotated[tuple[ShopPayment, ...], Field(min_length=1, max_length=500)]


def read_customers(raw: bytes, source: str) -> list[ShopCustomer]:
    """The customers in a file. Raises BadInput naming every bad line."""
    return read_records(raw, source, ShopCustomer, "customer_id")


def read_orders(raw: bytes, source: str) -> list[ShopOrder]:
    """The orders in a file. Raises BadInput naming every bad line."""
    return read_records(raw, source, ShopOrder, "order_id")
