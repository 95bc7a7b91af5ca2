"""The shop's cart gets another table, in four deploys, while somebody fills a cart: expand, migrate, contract."""

import json
import shutil
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

from background import background
from chained import Chain

SHOP = Path(__file__).parents[2] / "examples" / "shop"
# Whatever is written is written to the other table, too.
MIRROR = """

def _mirror(connection: Connection, cart: CartId) -> None:
    connection.execute(delete(_other).where(_other.c.cart == cart))
    connection.execute(insert(_other).from_select(list(_other.c), select(_items).where(_items.c.cart == cart)))

"""


def code(steps: int, *, reads: str, mirrored: bool) -> str:
    """Cart as it was in an earlier release."""
    text = (SHOP / "shop" / "cart.py").read_text()

    def replace(old: str, new: str) -> None:
        nonlocal text
        assert old in text
        text = text.replace(old, new)

    replace(
        "_old.create, _items.create, _copy, _old.drop]", f"*[_old.create, _new.create, _copy, _old.drop][:{steps}]]"
    )
    replace('_items = _table("item", "pieces")', '_new = _items = _table("item", "pieces")\n_other = _old')
    replace(
        "insert(_items).from_select(list(_items.c), select(_old)", "insert(_new).from_select(list(_new.c), select(_old)"
    )
    replace("known = select(_items.c.cart).where(_items.c.cart", "known = select(_new.c.cart).where(_new.c.cart")
    if reads == "line":
        replace("_new = _items = _table", "_items = _old\n_new = _other = _table")
        replace("\n_other = _old", "")
        replace("_items.c.pieces", "_items.c.quantity")
        replace("values(pieces=", "values(quantity=")
        replace('"pieces": quantity', '"quantity": quantity')
    if mirrored:
        replace("\n\ndef _one(", f"{MIRROR}\ndef _one(")
        replace(
            "            connection.execute(insert(_items).values(row))",
            "            connection.execute(insert(_items).values(row))\n        _mirror(connection, cart)",
        )
    return text


RELEASES = {
    "as it was": code(1, reads="line", mirrored=False),
    "expand: both are written": code(2, reads="line", mirrored=True),
    "migrate: the new one is read": code(3, reads="item", mirrored=True),
    "contract: the old one is not written any more": code(3, reads="item", mirrored=False),
    "contract: the old one goes": (SHOP / "shop" / "cart.py").read_text(),
}


class Shopper(threading.Thread):
    """Puts one thing after the other into a cart, and looks whether all of them are there."""

    def __init__(self, gateway: str, token: str) -> None:
        super().__init__()
        self._address = f"{gateway}/rpc/Cart/"
        self._headers = {"Authorization": f"Bearer {token}"}
        self.enough = threading.Event()
        self.put = 0
        self.trouble = ""

    def call(self, method: str, **arguments: Any) -> Any:
        data = json.dumps(arguments).encode()
        request = urllib.request.Request(self._address + method, data, self._headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read())

    def run(self) -> None:
        try:
            while not self.enough.is_set():
                cart = f"c{self.put // 20}"
                self.call("add", cart=cart, product="p1", quantity=1)
                found = self.call("count", cart=cart)
                assert found == self.put % 20 + 1, f"{cart} holds {found}, {self.put % 20 + 1} were put in"
                self.put += 1
        except Exception as error:
            self.trouble = repr(error)


def test_a_table_is_replaced_while_it_is_written_to(tmp_path: Path):
    folder = tmp_path / "shop"
    shutil.copytree(SHOP, folder, ignore=shutil.ignore_patterns("data", ".*", "__pycache__"))
    file = folder / "shop" / "cart.py"
    first, *later = RELEASES.items()
    file.write_text(first[1])
    with background(folder, Chain) as app:
        assert isinstance(app, Chain)
        endpoints = app.up()
        shopper = Shopper(endpoints["services"]["cart"]["gateway"], endpoints["token"])
        shopper.start()
        try:
            for name, text in later:
                before = shopper.put
                file.write_text(text)
                said = app.deploy()
                assert "starts cart" in said, name
                while shopper.put < before + 30 and not shopper.trouble:
                    time.sleep(0.01)
                assert not shopper.trouble, f"{name}: {shopper.trouble}"
        finally:
            shopper.enough.set()
            shopper.join()
        assert not shopper.trouble
        # And one release back: what only it used is still there to be read. Two back would need the old table.
        app.deploy()
