"""Halden Home, a small web shop: the tutorial of Fissile, and its test bed.

One module per component; each owns its nouns, its errors and its tables, and no other reads those.
Start at `frontend` to follow a request inwards, or at `orders` for how a purchase survives anything.
"""

from fissile import Application
from shop.auth import Auth
from shop.cart import Cart
from shop.catalog import Catalog
from shop.frontend import Frontend
from shop.images import Images
from shop.orders import Orders
from shop.payments import Payments
from shop.recommendations import Recommendations

app = Application(Frontend, Catalog, Images, Auth, Cart, Orders, Payments, Recommendations, name="shop")
