"""The user's own database through a connector block of the user's own."""

from __future__ import annotations

import pytest
from prefect_sqlalchemy import SqlAlchemyConnector

from refunds.doctor import databases
from refunds.errors import NeedsAttention
from refunds.settings import settings
from tasks import books
from tests.flows.flows_world import World

pytestmark = pytest.mark.anyio


@pytest.fixture
async def block_name(world: World, monkeypatch: pytest.MonkeyPatch) -> str:
    """A block on the sandbox's shop, while the address leads nowhere."""
    await SqlAlchemyConnector(connection_info=settings().shop_database_url).asave(
        "my-shop", overwrite=True
    )
    monkeypatch.setenv("REFUNDS_SHOP_URL", "sqlite:////nowhere/shop.db")
    monkeypatch.setenv("REFUNDS_SHOP_BLOCK", "my-shop")
    settings.cache_clear()
    return "my-shop"


async def test_a_refund_is_read_through_it_and_paid(world: World, block_name: str) -> None:
    request = world.request()
    await world.run(request)
    world.assert_paid_once(request)
    assert databases.shop().startswith(f"the block {block_name}")


async def test_a_block_that_is_not_there_is_named(
    world: World, block_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFUNDS_SHOP_BLOCK", "nobodys-shop")
    settings.cache_clear()
    with pytest.raises(NeedsAttention, match=r"nobodys-shop.*REFUNDS_SHOP_BLOCK"):
        books.shop()
