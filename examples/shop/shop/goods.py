"""What the shop sells: 24 kinds of things in 9 design lines, the same on every machine."""

from typing import NamedTuple


class Kind(NamedTuple):
    """One kind of thing. price: euros, before the line's factor."""

    slug: str
    name: str
    category: str
    price: int
    about: str


class Line(NamedTuple):
    """One design line: a colour and a manner."""

    slug: str
    name: str
    factor: float
    about: str


CATEGORIES = ("Kitchen", "Dining", "Living", "Lighting", "Desk", "Garden")

KINDS = (
    Kind("mug", "Mug", "Kitchen", 16, "Stoneware that keeps 300 ml of coffee warm and sits well in both hands."),
    Kind("bowl", "Bowl", "Kitchen", 22, "A deep bowl for soup, noodles or the whole of a Sunday's cereal."),
    Kind("teapot", "Teapot", "Kitchen", 58, "Pours without a drip. Holds one litre; the strainer comes with it."),
    Kind("jug", "Jug", "Kitchen", 34, "For milk, batter, or the flowers that would not fit the vase."),
    Kind("plate", "Plate", "Dining", 19, "27 cm across, with a rim that keeps sauce where it belongs."),
    Kind("tumbler", "Tumbler", "Dining", 12, "Blown by mouth, so that no two are quite alike. Dishwasher-safe."),
    Kind("carafe", "Carafe", "Dining", 38, "One litre of water, wine or cold tea, with a stopper of beech."),
    Kind("board", "Serving Board", "Dining", 42, "End-grain wood, oiled by hand, with a handle to carry the cheese."),
    Kind("cushion", "Cushion", "Living", 39, "Washed linen, 50 by 50 cm, filled with feathers that bounce back."),
    Kind("vase", "Vase", "Living", 46, "Thrown on the wheel and glazed inside; watertight, as a vase should be."),
    Kind("candle", "Candle", "Living", 24, "Rapeseed wax with a cotton wick. Burns for fifty hours."),
    Kind("clock", "Wall Clock", "Living", 64, "A sweeping hand that does not tick. Runs two years on one battery."),
    Kind("table-lamp", "Table Lamp", "Lighting", 89, "A warm pool of light for a bedside or a desk, with a dimmer."),
    Kind("pendant", "Pendant", "Lighting", 119, "Hangs over a table and leaves the corners of the room in peace."),
    Kind("lantern", "Lantern", "Lighting", 54, "For a candle or a bulb, indoors or out. It does not mind the rain."),
    Kind("floor-lamp", "Floor Lamp", "Lighting", 189, "Stands behind the good chair and reads over your shoulder."),
    Kind("notebook", "Notebook", "Desk", 14, "192 pages that lie flat and take ink from both sides."),
    Kind("pencil-pot", "Pencil Pot", "Desk", 18, "Heavy at the bottom, so that it stays where you put it."),
    Kind("bookends", "Bookends", "Desk", 36, "A pair. Holds forty novels, or six cookery books."),
    Kind("tray", "Tray", "Desk", 28, "For letters, keys and everything else that has no home."),
    Kind("planter", "Planter", "Garden", 32, "Frost-proof clay with a saucer. The plant is only for the picture."),
    Kind("watering-can", "Watering Can", "Garden", 44, "A long neck for shy pots. Two litres of powder-coated steel."),
    Kind("birdhouse", "Birdhouse", "Garden", 49, "For tits and sparrows: a 32 mm door and a roof that opens."),
    Kind("stool", "Garden Stool", "Garden", 79, "A seat, a step or a side table. Carries 120 kg without a word."),
)

LINES = (
    Line("fjord", "Fjord", 1.15, "deep blue, like the water off Ålesund before snow"),
    Line("moss", "Moss", 1.0, "the green of a wall that faces north"),
    Line("ember", "Ember", 1.1, "fired red earth, a little different each time"),
    Line("dune", "Dune", 0.9, "sand and straw, made to go with everything"),
    Line("aster", "Aster", 1.2, "a plum that turns violet towards evening"),
    Line("saffron", "Saffron", 1.05, "a yellow that lifts the greyest morning"),
    Line("coral", "Coral", 1.0, "a quiet pink with some orange in it"),
    Line("slate", "Slate", 0.95, "blue-grey and matt, as if split from the rock"),
    Line("ink", "Ink", 1.25, "almost black, and best beside something pale"),
)


class Good(NamedTuple):
    """One product as it is seeded. price: cents."""

    id: str
    name: str
    category: str
    price: int
    about: str


def all_goods() -> list[Good]:
    """The whole assortment; each round has one of every kind, in all colours."""
    return [
        Good(
            id=f"{line.slug}-{kind.slug}",
            name=f"{line.name} {kind.name}",
            category=kind.category,
            price=round(kind.price * line.factor * 2) * 50 - 10,
            about=f"{kind.about} The {line.name} line is {line.about}.",
        )
        for turn in range(len(LINES))
        for place, kind in enumerate(KINDS)
        for line in (LINES[(place + turn) % len(LINES)],)
    ]
