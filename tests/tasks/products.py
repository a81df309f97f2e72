"""The products that our steps can speak to, each in memory, with what its adapter needs."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.tasks.fakes import (
    FakeHubSpot,
    FakePayPal,
    FakeReceiver,
    FakeServer,
    FakeVouchers,
    FakeWarehouse,
    FakeZendesk,
)
from tests.tasks.tasks_world import MAKING, PAY, UNDOING, Step

MAPPING = """
[coupons]
key_header = "X-Request-Id"
[coupons.make]
method = "PUT"
path = "/vouchers"
body = { ref = "{key}", customer = "{customer_id}", value = "{amount}", currency = "{currency}" }
id = "data.code"
[coupons.find]
path = "/vouchers?ref={key}"
list = "data.items"
key = "ref"
id = "code"
[coupons.undo]
method = "DELETE"
path = "/vouchers/{id}"
absent = [410]

[holds]
make = { path = "/hold", body = { order = "{order_id}" }, id = "no" }
undo = { path = "/hold/{id}/stop" }

[labels]
make = { path = "/label", body = { order = "{order_id}", lines = "{item_ids}" }, id = "no" }
undo = { path = "/label/{id}/stop" }
"""


@dataclass(frozen=True)
class Product:
    """One product behind one of our steps."""

    server: Callable[[], FakeServer]
    step: Step
    settings: dict[str, str]
    # Where nothing can be asked, the receiver tells a second send by its key.
    can_be_asked: bool = True
    undo: Step | None = None


CRM, COUPONS, LOGISTICS = "https://crm.test", "https://shop.test/api", "https://wms.test"
VOUCHERS = {"coupons_url": COUPONS, "coupons_adapter": "mapped", "coupons_key": "vk"}
WAREHOUSE = {"logistics_url": LOGISTICS, "logistics_adapter": "mapped"}
PRODUCTS = {
    "zendesk": Product(
        FakeZendesk,
        MAKING["sync_crm"],
        {"crm_url": CRM, "crm_adapter": "zendesk", "crm_key": "a@b.c/token:zk"},
    ),
    "hubspot": Product(
        FakeHubSpot,
        MAKING["sync_crm"],
        {"crm_url": CRM, "crm_adapter": "hubspot", "crm_key": "pat-1"},
    ),
    "webhook": Product(
        FakeReceiver,
        MAKING["sync_crm"],
        {"crm_url": f"{CRM}/hooks/refunds", "crm_adapter": "webhook", "crm_key": "shared"},
        can_be_asked=False,
    ),
    "vouchers": Product(
        FakeVouchers, MAKING["issue_coupon"], VOUCHERS, undo=UNDOING["void_coupon"]
    ),
    "holds": Product(
        FakeWarehouse,
        MAKING["hold_shipment"],
        WAREHOUSE,
        can_be_asked=False,
        undo=UNDOING["release_shipment"],
    ),
    "labels": Product(
        FakeWarehouse,
        MAKING["create_return_label"],
        WAREHOUSE,
        can_be_asked=False,
        undo=UNDOING["cancel_return_label"],
    ),
}
# A payment ends otherwise when it is refused, so the gateways have a contract of their own.
GATEWAYS = {
    "paypal": Product(
        FakePayPal,
        PAY,
        {
            "gateway_url": FakePayPal.base,
            "gateway_adapter": "paypal",
            "gateway_key": "client:secret",
        },
    ),
}
