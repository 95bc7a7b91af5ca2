"""Recommendations: what goes well with a product. A nicety: every page works without it."""

import msgspec

from fissile import component, method
from shop.catalog import Catalog, NoSuchProduct, Product, ProductId


class RecommendationsConfig(msgspec.Struct, frozen=True):
    """size: how many products to recommend."""

    size: int = 4


@component
class Recommendations:
    """What goes well with a product."""

    def __init__(self, catalog: Catalog, config: RecommendationsConfig) -> None:
        self._catalog = catalog
        self._config = config

    # Nobody waits long for a nicety.
    @method(timeout=0.5, idempotent=True, raises=(NoSuchProduct,))
    async def goes_with(self, id: ProductId) -> tuple[Product, ...]:
        """Things of the same design line, from other parts of the shop first. Raises NoSuchProduct."""
        product = await self._catalog.product(id)
        line = product.name.split()[0]
        same_line = (await self._catalog.search(line, size=60)).products
        others = [other for other in same_line if other.id != id and other.name.startswith(line)]
        # Stable: the same product is always shown with the same company, but not all with the same four.
        turn = sum(id.encode()) % max(1, len(others))
        turned = others[turn:] + others[:turn]
        turned.sort(key=lambda other: other.category == product.category)
        return tuple(turned[: self._config.size])
