"""Draws the pictures of the goods, so that the shop needs none from elsewhere. The same name, the same picture.

Most things are turned on a lathe: a profile of (height, half width) around the middle. Measures are
percent of the picture's side, from the top left.
"""

from collections.abc import Callable, Sequence

from PIL import Image, ImageDraw, ImageFilter

Colour = tuple[int, int, int]
Point = tuple[float, float]

SIDE = 640
FINER = 2  # drawn larger, then scaled down: smooth edges

# line: ground, body, accent, manner of decoration
PALETTES: dict[str, tuple[str, str, str, str]] = {
    "fjord": ("#dbe6ee", "#2f5d7c", "#f0ebe1", "dipped"),
    "moss": ("#e2e8d8", "#5f7a4a", "#ede6d3", "banded"),
    "ember": ("#f3dfd3", "#b4532f", "#f4e4d0", "dipped"),
    "dune": ("#efe7d8", "#cdb48a", "#fbf6ea", "banded"),
    "aster": ("#e9dfea", "#74487a", "#e6b8c8", "banded"),
    "saffron": ("#f8edcf", "#dc9f24", "#fff7e2", "dipped"),
    "coral": ("#f9e2dc", "#e08470", "#fff3ee", "plain"),
    "slate": ("#e1e5e8", "#66757f", "#cfd6da", "banded"),
    "ink": ("#e5e3df", "#2b2d33", "#c99b5a", "plain"),
}
WOOD, LEAF, GLOW, PAPER = "#b98a5a", "#5c8a56", "#fff1c4", "#fbf8f1"


class Canvas:
    """A picture in the making, in the colours of one design line."""

    def __init__(self, ground: str, body: str, accent: str, manner: str) -> None:
        self.body, self.accent, self.manner = body, accent, manner
        self._side = SIDE * FINER
        self._image = _blend(_rgb(ground), _shade(_rgb(ground), 0.9), self._side, self._side, vertical=True)
        self.oval(50, 88, 30, 3.2, _hex(_shade(_rgb(ground), 0.72)), flat=True)
        self._image = self._image.filter(ImageFilter.GaussianBlur(self._side / 70))

    def finish(self) -> Image.Image:
        return self._image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: str, r: float = 0, flat: bool = False) -> None:
        edges = self._scaled([(x0, y0), (x1, y1)])
        self._paint(colour, flat, lambda pen: pen.rounded_rectangle(edges, r * self._side / 100, fill=255))

    def oval(self, x: float, y: float, rx: float, ry: float, colour: str, flat: bool = False) -> None:
        edges = self._scaled([(x - rx, y - ry), (x + rx, y + ry)])
        self._paint(colour, flat, lambda pen: pen.ellipse(edges, fill=255))

    def ring(self, x: float, y: float, rx: float, ry: float, width: float, colour: str) -> None:
        edges = self._scaled([(x - rx, y - ry), (x + rx, y + ry)])
        self._paint(colour, False, lambda pen: pen.ellipse(edges, outline=255, width=int(width * self._side / 100)))

    def line(self, points: Sequence[Point], width: float, colour: str) -> None:
        places = self._scaled(points)
        thick = int(width * self._side / 100)

        def draw(pen: ImageDraw.ImageDraw) -> None:
            pen.line(places, fill=255, width=thick, joint="curve")
            for x, y in (places[0], places[-1]):
                pen.ellipse((x - thick / 2, y - thick / 2, x + thick / 2, y + thick / 2), fill=255)

        self._paint(colour, False, draw)

    def poly(self, points: Sequence[Point], colour: str, flat: bool = False) -> None:
        places = self._scaled(points)
        self._paint(colour, flat, lambda pen: pen.polygon(places, fill=255))

    def turned(self, profile: Sequence[Point], x: float = 50, colour: str = "", decorated: bool = True) -> None:
        """Something from the lathe, with an open mouth where its profile begins."""
        colour = colour or self.body
        smooth = _smooth(profile)
        self._turn(smooth, x, colour)
        top, bottom = smooth[0][0], smooth[-1][0]
        if decorated and self.manner != "plain":
            start, end = (0.0, 0.42) if self.manner == "dipped" else (0.3, 0.48)
            a, b = top + (bottom - top) * start, top + (bottom - top) * end
            band = [p for p in smooth if a <= p[0] <= b]
            self._turn(band, x, self.accent)
            if self.manner == "banded":
                self.oval(x, a, band[0][1], band[0][1] * 0.16, colour)

    def mouth(self, x: float, y: float, rx: float, inside: str = "") -> None:
        """The rim of something open, seen a little from above."""
        rim = self.accent if self.manner == "dipped" else self.body
        self.oval(x, y, rx, rx * 0.16, rim)
        self.oval(x, y, rx * 0.92, rx * 0.125, inside or _hex(_shade(_rgb(self.body), 0.55)))

    def _turn(self, profile: Sequence[Point], x: float, colour: str) -> None:
        if len(profile) < 2:
            return
        right = [(x + half, y) for y, half in profile]
        left = [(x - half, y) for y, half in reversed(profile)]
        bottom, base = profile[-1]
        self.poly([*right, *left], colour)
        # Round below, as everything round is when seen from a little above.
        self.oval(x, bottom, base, base * 0.16, colour)

    def _scaled(self, points: Sequence[Point]) -> list[Point]:
        return [(x * self._side / 100, y * self._side / 100) for x, y in points]

    def _paint(self, colour: str, flat: bool, draw: Callable[[ImageDraw.ImageDraw], None]) -> None:
        mask = Image.new("L", (self._side, self._side))
        draw(ImageDraw.Draw(mask))
        bounds = mask.getbbox()
        if bounds is None:
            return
        tone, (width, height) = _rgb(colour), (bounds[2] - bounds[0], bounds[3] - bounds[1])
        # Light comes from the left: that alone makes a flat shape look round.
        fill = (
            Image.new("RGB", (width, height), tone)
            if flat
            else _blend(_shade(tone, 1.14), _shade(tone, 0.8), width, height)
        )
        self._image.paste(fill, bounds[:2], mask.crop(bounds))


def _rgb(colour: str) -> Colour:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _hex(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _shade(colour: Colour, factor: float) -> Colour:
    red, green, blue = (min(255, int(part * factor)) for part in colour)
    return red, green, blue


def _blend(start: Colour, end: Colour, width: int, height: int, vertical: bool = False) -> Image.Image:
    strip = Image.new("RGB", (256, 1))
    strip.putdata([tuple(int(a + (b - a) * i / 255) for a, b in zip(start, end, strict=True)) for i in range(256)])
    if vertical:
        strip = strip.transpose(Image.Transpose.ROTATE_270)
    return strip.resize((width, height), Image.Resampling.BILINEAR)


def _smooth(profile: Sequence[Point], steps: int = 40) -> list[Point]:
    """Catmull-Rom through the points of the profile."""
    points = [profile[0], *profile, profile[-1]]
    smooth: list[Point] = []
    for a, b, c, d in zip(points, points[1:], points[2:], points[3:], strict=False):
        for step in range(steps):
            t = step / steps
            height, half = (
                0.5 * (2 * q + (r - p) * t + (2 * p - 5 * q + 4 * r - s) * t**2 + (3 * q - p - 3 * r + s) * t**3)
                for p, q, r, s in zip(a, b, c, d, strict=True)
            )
            smooth.append((height, max(half, 0.0)))
    return [*smooth, profile[-1]]


def mug(c: Canvas) -> None:
    c.ring(70, 58, 11, 14, 4, c.body)
    c.turned([(36, 22), (60, 22), (80, 21), (85, 17)])
    c.mouth(50, 36, 22)


def bowl(c: Canvas) -> None:
    c.turned([(52, 34), (64, 31), (76, 22), (83, 11), (86, 11)])
    c.mouth(50, 52, 34)


def teapot(c: Canvas) -> None:
    c.ring(27, 60, 11, 13, 3.4, WOOD)
    c.poly([(66, 68), (70, 56), (84, 40), (90, 41), (86, 50), (74, 74)], c.body)
    c.turned([(44, 11), (50, 20), (64, 26), (78, 21), (86, 13)])
    c.oval(50, 44.5, 12, 3.2, c.accent)
    c.oval(50, 39.5, 3.4, 3.4, WOOD)


def jug(c: Canvas) -> None:
    c.ring(69, 52, 11, 16, 3.4, c.body)
    c.poly([(34, 28), (28, 25), (37, 42)], c.accent if c.manner == "dipped" else c.body)
    c.turned([(28, 16), (38, 15), (56, 21), (74, 22), (86, 16)])
    c.mouth(50, 28, 16)


def plate(c: Canvas) -> None:
    c.oval(50, 50, 36, 36, c.body)
    c.oval(50, 50, 33.6, 33.6, c.accent if c.manner != "plain" else c.body)
    c.oval(50, 50, 24, 24, c.body if c.manner == "dipped" else _hex(_shade(_rgb(c.body), 1.12)))


def tumbler(c: Canvas) -> None:
    pale = _hex(_shade(_rgb(c.body), 1.25))
    c.turned([(34, 17), (60, 16), (84, 13)], colour=pale)
    c.mouth(50, 34, 17, inside=_hex(_shade(_rgb(pale), 0.75)))


def carafe(c: Canvas) -> None:
    c.turned([(22, 8), (32, 6), (44, 8), (60, 19), (76, 22), (86, 17)])
    c.oval(50, 22, 8, 1.6, c.body)
    c.box(45, 12, 55, 22.5, WOOD, r=2.4)


def board(c: Canvas) -> None:
    c.box(45, 8, 55, 34, WOOD, r=5)
    c.box(26, 26, 74, 86, WOOD, r=8)
    c.box(26, 64, 74, 86, c.body, r=8)
    c.box(26, 62, 74, 72, c.body)
    c.oval(50, 14, 2, 2, "#efe7d8", flat=True)
    for y in (36, 45, 54):
        c.line([(32, y), (60, y + 1)], 0.35, _hex(_shade(_rgb(WOOD), 0.86)))


def cushion(c: Canvas) -> None:
    edge = [(22, 30), (50, 33.5), (78, 30), (75.5, 56), (79, 84), (50, 81), (21, 84), (24.5, 56)]
    c.poly(edge, c.body)
    c.box(24, 33, 76, 81, c.body, r=6)
    stripes = (46, 52, 58) if c.manner == "banded" else (40, 57, 74) if c.manner == "dipped" else (57,)
    for y in stripes:
        c.box(24.2, y - 1, 75.8, y + 1, c.accent)


def vase(c: Canvas) -> None:
    for x, y in ((38, 12), (52, 6), (63, 14)):
        c.line([(50, 40), ((50 + x) / 2, 26), (x, y + 4)], 0.8, LEAF)
        c.oval(x, y + 3, 4.6, 4.6, c.accent)
        c.oval(x, y + 3, 1.8, 1.8, "#d8a53c")
    c.turned([(34, 9), (40, 7.5), (56, 20), (72, 20), (86, 11)])
    c.mouth(50, 34, 9)


def candle(c: Canvas) -> None:
    c.oval(50, 25, 9, 13, GLOW, flat=True)
    c.oval(50, 28, 3.4, 7.5, "#f2a63b", flat=True)
    c.line([(50, 34), (50, 42)], 0.8, "#3b3530")
    c.turned([(46, 19), (60, 19), (86, 19)])
    c.mouth(50, 46, 19, inside=PAPER)
    c.box(38, 60, 62, 74, PAPER, r=1)
    c.box(43, 65.4, 57, 66.4, c.body, flat=True)
    c.box(46, 68.4, 54, 69.2, c.body, flat=True)


def clock(c: Canvas) -> None:
    c.oval(50, 48, 34, 34, c.body)
    c.oval(50, 48, 30, 30, PAPER)
    for x, y in ((50, 22), (50, 74), (24, 48), (76, 48)):
        c.oval(x, y, 1.5, 1.5, c.body)
    c.line([(50, 48), (37, 39)], 2.2, "#35322f")
    c.line([(50, 48), (64, 30)], 1.6, "#35322f")
    c.line([(45, 56), (58, 35)], 0.6, c.accent if c.manner != "plain" else c.body)
    c.oval(50, 48, 2.2, 2.2, c.body)


def table_lamp(c: Canvas) -> None:
    c.oval(50, 44, 34, 26, GLOW, flat=True)
    c.turned([(54, 4), (62, 12), (74, 15), (86, 9)])
    c.box(48.6, 44, 51.4, 55, WOOD)
    c.poly([(38, 16), (62, 16), (73, 46), (27, 46)], PAPER)
    c.oval(50, 46, 23, 3, "#f6e3a8")


def pendant(c: Canvas) -> None:
    c.line([(50, 0), (50, 30)], 0.7, "#35322f")
    c.poly([(22, 62), (78, 62), (92, 96), (8, 96)], GLOW, flat=True)
    c.turned([(28, 3.5), (34, 6), (46, 22), (62, 31)], decorated=c.manner != "dipped")
    c.oval(50, 62, 31, 5, c.accent)
    c.oval(50, 62.6, 26, 3.8, GLOW, flat=True)
    c.oval(50, 63, 6, 4, "#ffffff", flat=True)


def lantern(c: Canvas) -> None:
    c.ring(50, 22, 9, 10, 1.4, c.body)
    c.poly([(50, 22), (72, 38), (28, 38)], c.body)
    c.box(32, 38, 68, 82, GLOW)
    c.box(44, 62, 56, 82, PAPER)
    c.oval(50, 57, 2.2, 5, "#f2a63b", flat=True)
    for x in (32, 48.8, 65.6):
        c.box(x, 38, x + 2.4, 82, c.body)
    c.box(28, 80, 72, 87, c.body, r=1)
    c.box(32, 57, 68, 58.6, c.body)


def floor_lamp(c: Canvas) -> None:
    c.oval(48, 30, 34, 24, GLOW, flat=True)
    c.box(49, 28, 51, 85, WOOD)
    c.oval(50, 86, 16, 2.8, c.body)
    c.poly([(40, 8), (60, 8), (70, 32), (30, 32)], c.body)
    c.oval(50, 32, 20, 2.6, "#f6e3a8")


def notebook(c: Canvas) -> None:
    c.box(31, 17, 77, 87, PAPER, r=2)
    c.box(27, 14, 74, 85, c.body, r=2)
    c.box(27, 14, 34, 85, _hex(_shade(_rgb(c.body), 0.78)), r=2)
    c.box(66, 14, 68, 85, c.accent)
    c.box(42, 30, 60, 42, PAPER, r=1)
    c.box(45, 34, 57, 35, c.body, flat=True)
    c.box(45, 37.4, 53, 38.2, c.body, flat=True)


def pencil_pot(c: Canvas) -> None:
    for x, top, colour in ((38, 20, "#d9a441"), (47, 10, c.accent), (56, 16, WOOD), (63, 26, "#8d5b4c")):
        c.box(x - 2, top, x + 2, 60, colour)
        c.poly([(x - 2, top + 0.2), (x + 2, top + 0.2), (x, top - 6)], "#efd9b4")
        c.poly([(x - 0.7, top - 4), (x + 0.7, top - 4), (x, top - 6)], "#35322f")
    c.turned([(48, 19), (66, 19), (86, 18)])


def bookends(c: Canvas) -> None:
    books = ((30, 30, "#d9a441"), (38, 24, PAPER), (46, 34, "#8d5b4c"), (54, 27, c.accent), (62, 32, "#7d8f86"))
    for x, top, colour in books:
        c.box(x, top, x + 7.4, 84, colour, r=0.8)
        c.box(x + 2, top + 8, x + 5.4, top + 9.4, "#35322f", flat=True)
    for x, turn in ((18, 1), (82, -1)):
        c.poly([(x, 84), (x + 12 * turn, 84), (x + 12 * turn, 44), (x + 7 * turn, 50)], c.body)
        c.box(min(x, x + 14 * turn), 83, max(x, x + 14 * turn), 87, c.body, r=1)


def tray(c: Canvas) -> None:
    c.poly([(22, 52), (78, 52), (90, 78), (10, 78)], _hex(_shade(_rgb(c.body), 0.7)))
    c.poly([(26, 55), (74, 55), (82, 74), (18, 74)], c.accent)
    c.poly([(36, 58), (58, 56), (63, 68), (40, 71)], PAPER)
    c.poly([(37, 58.4), (57, 56.6), (50, 65)], "#ece6da")
    c.ring(69, 66, 3.4, 2.4, 0.8, "#a98b4c")
    c.box(10, 77, 90, 86, c.body, r=2)
    c.box(43, 79.6, 57, 82.4, _hex(_shade(_rgb(c.body), 0.6)), r=1.4)


def planter(c: Canvas) -> None:
    for x, y, lean in ((50, 8, 0), (32, 16, -9), (68, 16, 9), (22, 32, -12), (78, 32, 12)):
        c.poly(
            [(50, 58), ((50 + x) / 2 - 6 + lean / 2, (58 + y) / 2), (x, y), ((50 + x) / 2 + 6, (58 + y) / 2 + 2)], LEAF
        )
    c.turned([(54, 24), (62, 23), (80, 17), (84, 16)])
    c.box(24, 52, 76, 60, c.body, r=2)
    c.oval(50, 86, 21, 2.8, c.body)


def watering_can(c: Canvas) -> None:
    c.ring(66, 52, 17, 20, 2.6, c.body)
    c.poly([(40, 80), (36, 68), (14, 30), (18, 28), (42, 62)], c.body)
    c.poly([(9, 32), (21, 24), (22, 30), (14, 35)], c.accent)
    c.turned([(50, 18), (62, 19), (86, 20)], x=56)
    c.mouth(56, 50, 18)


def birdhouse(c: Canvas) -> None:
    c.box(48, 78, 52, 100, WOOD)
    c.poly([(30, 40), (50, 20), (70, 40), (70, 80), (30, 80)], c.accent if c.manner != "plain" else PAPER)
    c.poly([(22, 44), (50, 14), (54, 18), (27, 49)], c.body)
    c.poly([(78, 44), (50, 14), (46, 18), (73, 49)], c.body)
    c.oval(50, 50, 7, 7, "#35322f", flat=True)
    c.line([(50, 64), (50, 67)], 1.8, WOOD)
    c.box(28, 78, 72, 82, c.body, r=1)


def stool(c: Canvas) -> None:
    for top, bottom in ((32, 24), (68, 76), (44, 41), (56, 59)):
        c.line([(top, 42), (bottom, 86)], 3, WOOD)
    c.line([(29, 66), (71, 66)], 1.8, WOOD)
    c.box(22, 34, 78, 45, c.body, r=4)
    c.oval(50, 35, 27.5, 4, c.accent if c.manner != "plain" else c.body)


KINDS: dict[str, Callable[[Canvas], None]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        *(mug, bowl, teapot, jug, plate, tumbler, carafe, board, cushion, vase, candle, clock),
        *(table_lamp, pendant, lantern, floor_lamp, notebook, pencil_pot, bookends, tray),
        *(planter, watering_can, birdhouse, stool),
    )
}


def draw(name: str) -> Image.Image | None:
    """The picture of a product by its id, such as "fjord-mug"; None if nothing is called so."""
    line, _, kind = name.partition("-")
    if line not in PALETTES or kind not in KINDS:
        return None
    canvas = Canvas(*PALETTES[line])
    KINDS[kind](canvas)
    return canvas.finish()
