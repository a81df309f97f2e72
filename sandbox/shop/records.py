"""The records that the shop is loaded from, as the retail data have them."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from sandbox.records import Amount, Currency, Id, Line, Record

# The prefix makes the payment intent of a charge as unique as the charge.
ChargeId = Annotated[str, StringConstraints(pattern=r"^ch_[!-~]+$", max_length=200)]
Short = Annotated[str, StringConstraints(min_length=1, max_length=100)]
# Above the largest order of any shop, small enough for one transaction.
LINES_LIMIT = 500


class PaymentMethod(Record):
    """A way a customer pays; `balance` of a gift card is taken and not kept."""

    id: Id
    source: Literal["credit_card", "gift_card", "paypal"]
    brand: Short | None = None
    last_four: Annotated[str, StringConstraints(pattern=r"^[0-9]{4}$")] | None = None
    balance: Annotated[int, Field(ge=0)] | None = None


class Customer(Record):
    """A customer; `orders` is taken and not kept, since orders name their customer."""

    customer_id: Id
    name: Line
    email: Line
    state: Short
    zip: Short
    payment_methods: Annotated[list[PaymentMethod], Field(max_length=LINES_LIMIT)]
    orders: Annotated[list[Id], Field(max_length=10_000)] = Field(default_factory=list)


class Address(Record):
    """Where an order goes."""

    state: Short
    zip: Short
    country: Short


class Item(Record):
    """One line of an order."""

    item_id: Id
    product_id: Id
    name: Line
    price_minor: Amount
    options: Annotated[dict[Short, Line], Field(max_length=50)] = Field(default_factory=dict)


class Fulfillment(Record):
    """Parcels and the items in them."""

    tracking_id: Annotated[list[Id], Field(min_length=1, max_length=LINES_LIMIT)]
    item_ids: Annotated[list[Id], Field(max_length=LINES_LIMIT)]


class Payment(Record):
    """Money in or out; without `charge_id` it belongs to the order's own charge."""

    type: Literal["payment", "refund"]
    amount_minor: Amount
    payment_method_id: Id
    charge_id: ChargeId | None = None


class Order(Record):
    """An order with its lines."""

    order_id: Id
    customer_id: Id
    status: Literal["pending", "processed", "delivered", "cancelled"]
    currency: Currency
    ship_to: Address
    items: Annotated[list[Item], Field(min_length=1, max_length=LINES_LIMIT)]
    fulfillments: Annotated[list[Fulfillment], Field(max_length=LINES_LIMIT)] = Field(
        default_factory=list
    )
    payments: Annotated[list[Payment], Field(min_length=1, max_length=LINES_LIMIT)]

    def charge_of(self, payment: Payment) -> str:
        """Return the id of the charge that `payment` belongs to."""
        return payment.charge_id or f"ch_{self.order_id.replace('#', '')}"
