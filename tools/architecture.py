"""Draw the rooms of the package and the arrows between them, from the imports."""

from __future__ import annotations

from html import escape
from pathlib import Path

from tools.imports import FACADE, LAB, ROOT, arrows

PICTURE = ROOT / "docs" / "images" / "architecture.svg"
GROUND = ("catalogue", "records", "support")
"""Rooms that nearly every other imports: drawn as the ground, without arrows."""
LABELS = {FACADE: "import pool_exporter", "cli": "cli: pool-exporter …"}
COLUMNS = {
    "ledger": 0.15,
    "capture": 0.15,
    FACADE: 0.2,
    "instrumentation": 0.32,
    "exporters": 0.42,
    "plugins": 0.44,
    "serving": 0.55,
    "messages": 0.6,
    LAB: 0.66,
    "cli": 0.66,
    "monitoring": 0.85,
}
"""How far to the right a room is drawn, so that arrows do not cross boxes; new rooms stand in the middle."""
WIDTH, BOX_WIDTH, BOX_HEIGHT, FLOOR_HEIGHT = 800, 170, 36, 80
STYLE = (
    "text{font:15px system-ui,sans-serif;fill:#1f2328;text-anchor:middle}rect{fill:#f6f8fa;stroke:#59636e;rx:6}"
    ".ground{fill:#ddf4ff}path{fill:none;stroke:#59636e;marker-end:url(#a)}marker path{fill:#59636e;marker-end:none}"
    "@media(prefers-color-scheme:dark){text{fill:#f0f6fc}rect{fill:#151b23;stroke:#9198a1}.ground{fill:#0c2d6b}"
    "path{stroke:#9198a1}marker path{fill:#9198a1}}"
)

Point = tuple[float, float]


def floors(imports: dict[str, set[str]]) -> dict[str, int]:
    """Return how many rooms lie below each room at the most; an arrow that closes a circle does not count."""
    found: dict[str, int] = {}

    def floor(room: str, above: tuple[str, ...]) -> int:
        if room not in found:
            below = [floor(one, (*above, room)) for one in sorted(imports[room]) if one not in (*above, room)]
            found[room] = max(below, default=-1) + 1
        return found[room]

    for room in sorted(imports):  # the facade and the command come first, which nothing below imports
        floor(room, ())
    return found


def direct(imports: dict[str, set[str]]) -> list[tuple[str, str]]:
    """Return the arrows without those that a longer way says too."""

    def reached(room: str, seen: frozenset[str]) -> set[str]:
        further = imports[room] - seen
        return further.union(*(reached(one, seen | {room}) for one in further))

    return [
        (room, target)
        for room, targets in sorted(imports.items())
        for target in sorted(targets)
        if not any(target in reached(other, frozenset({room})) for other in targets - {target})
    ]


def picture() -> str:
    """Return the SVG: a box for each room, higher than all that it imports."""
    imports = {
        room: targets - set(GROUND) for room, targets in arrows().items() if room not in (*GROUND, "__main__")
    }
    level = floors(imports)
    top = max(level.values())
    place: dict[str, Point] = {}
    for room, number in level.items():
        place[room] = (WIDTH * COLUMNS.get(room, 0.5), 20 + (top - number) * FLOOR_HEIGHT)
    bottom = 20 + (top + 1) * FLOOR_HEIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + BOX_HEIGHT + 20}">',
        "<title>The rooms of pool_exporter: an arrow leads from a room to one that it imports</title>",
        f"<style>{STYLE}</style>",
        '<defs><marker id="a" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" '
        'orient="auto"><path d="M0 0L8 4L0 8"/></marker></defs>',
    ]
    down = {room: {one for one in targets if level[one] < level[room]} for room, targets in imports.items()}
    up = [(room, target) for room, targets in imports.items() for target in targets - down[room]]
    parts += [_arrow(place[room], place[target]) for room, target in [*direct(down), *sorted(up)]]
    for room, at in sorted(place.items()):
        parts += _box(LABELS.get(room, room), at)
    for index, room in enumerate(GROUND):
        parts += _box(room, (WIDTH * (index + 1) / (len(GROUND) + 1), bottom), "ground")
    return "\n".join([*parts, "</svg>", ""])


def _arrow(start: Point, end: Point) -> str:
    (x, y), (to_x, to_y) = start, end
    if to_y > y:
        y += BOX_HEIGHT
    else:  # upward: it closes a circle
        to_y += BOX_HEIGHT
    middle = (y + to_y) / 2
    return f'<path d="M{x:.0f} {y:.0f}C{x:.0f} {middle:.0f} {to_x:.0f} {middle:.0f} {to_x:.0f} {to_y:.0f}"/>'


def _box(label: str, at: Point, kind: str = "") -> list[str]:
    x, y = at
    name = f' class="{kind}"' if kind else ""
    left = x - BOX_WIDTH / 2
    return [
        f'<rect{name} x="{left:.0f}" y="{y:.0f}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}"/>',
        f'<text x="{x:.0f}" y="{y + 23:.0f}">{escape(label)}</text>',
    ]


def files() -> dict[Path, str]:
    """Return the text of the picture, by its path."""
    return {PICTURE: picture()}
