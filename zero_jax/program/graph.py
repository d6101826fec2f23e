"""A program as a picture: how data flows through its three functions."""

import itertools
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path

from zero_jax.program.memory import Interface
from zero_jax.program.programs import Programs
from zero_jax.program.statements import Statement, Written, written

LEARNED, KEPT, GIVEN, PLAIN = "#e08a2b", "#3d85c6", "#3f9e5f", "#8a8a8a"
"""The colours of boxes, as `LEGEND` says; `PLAIN` for all else."""

LEGEND = {LEARNED: "learned", KEPT: "kept in memory", GIVEN: "features x, label y"}

INK = "#010203"
"""The colour of text; a page replaces it by its own."""

TITLES = ("Setup", "Predict", "Learn")

_LINE, _CHARACTER, _PAD, _GAP, _BESIDE, _TITLE, _MARGIN = 0.2, 0.079, 0.1, 0.3, 0.2, 0.6, 0.2
"""In inches: a line of text, a character, the space around text, that between rows and between boxes of a row, a title,
the margin."""

_SWEEPS = 8
"""How often rows are put in order, each by the ones beside it."""


class Node(NamedTuple):
    """One box.

    Attributes:
      lines: its text: what is computed, then its role if it has one.
      colour: one of `LEARNED`, `KEPT`, `GIVEN`, `PLAIN`.
      sources: the numbers of the boxes whose values it reads, all before its own.
      solid: whether it is an instruction; values from before the function are dashed.
    """

    lines: tuple[str, ...]
    colour: str
    sources: tuple[int, ...] = ()
    solid: bool = True


def graph(program: Programs, interface: Interface | None = None) -> Figure:
    """One program without dead code, as a figure: Setup, Predict and Learn with the values that flow in each.

    Args:
      program: one program.
      interface: where label, features and prediction are; None for scalar labels.

    Raises:
      ValueError: not one program.

    Example:
      >>> from zero_jax import library
      >>> graph(library.program("network")).savefig("network.svg")    # doctest: +SKIP
    """
    if len(program) != 1:
        raise ValueError(f"a graph shows one program, not {len(program)}: choose one, as in programs[:1]")
    parts = [_placed(found) for found in nodes(program, interface)]
    setup, predict, learn = parts
    below = setup.height + _TITLE if setup.boxes else 0.0
    beside = max(setup.width, predict.width, 1.0) + 2 * _GAP
    places = ((0.0, 0.0), (0.0, below), (beside, 0.0))  # Learn stands beside the others
    width = beside + max(learn.width, 1.0) + 2 * _MARGIN
    height = max(below + predict.height, learn.height) + _TITLE + 2 * _MARGIN
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    x = _MARGIN
    for colour, text in LEGEND.items():
        axes.text(x, height - _MARGIN, text, fontsize=9, color=colour, va="center")
        x += (len(text) + 3) * _CHARACTER
    for title, part, (left, top) in zip(TITLES, parts, places, strict=True):
        if part.boxes:
            at = _MARGIN + left, top + _TITLE / 2
            axes.text(*at, title, fontsize=11, fontweight="bold", va="center", color=INK)
            _draw(axes, part, _MARGIN + left, top + _TITLE)
    return figure


def nodes(program: Programs, interface: Interface | None = None) -> list[list[Node]]:
    """The boxes of Setup, Predict and Learn.

    Example:
      >>> from zero_jax import library
      >>> [node.lines[0] for node in nodes(library.program("linear"))[1]]
      ['weights', 'x', 'prediction = dot(weights, x)']
    """
    found = written(program, interface)
    learned = {one.output for one in found.components[2] if one.attribute and one.role.startswith("updates")}
    return [_nodes(component, found, learned) for component in found.components]


def _nodes(statements: list[Statement], found: Written, learned: set[str]) -> list[Node]:
    made: list[Node] = []
    numbers: dict[str, int] = {}

    def colour(name: str) -> str:
        if name in learned:
            return LEARNED
        return KEPT if name in found.attributes else GIVEN if name in ("x", "y") else PLAIN

    def number(name: str) -> int:
        if name not in numbers:
            numbers[name] = len(made)
            made.append(Node((name,), colour(name), solid=False))
        return numbers[name]

    for one in statements:
        names = [name for name in (*one.inputs, one.old) if name not in ("", "0")]
        sources = tuple(dict.fromkeys(number(name) for name in names))
        numbers[one.output] = len(made)
        made.append(Node((_formula(one), *_role(one)), colour(one.output), sources))
    return made


def _role(one: Statement) -> tuple[str, ...]:
    """Its role, where the formula does not say it."""
    if one.role.startswith("updates"):
        return ("update",) if one.attribute else ("gradient",)
    if one.role.startswith("layer"):
        return ("layer",)
    return (one.role,) if one.role in ("gradient", "activation") else ()


def _formula(one: Statement) -> str:
    a, b = [*one.inputs, "", ""][:2]
    return one.op.form.format(*(f"{value:.4g}" for value in one.constants), a=a, b=b, o=one.output)


# ---------------------------------------------------------------------------------------------- layout


class _Box(NamedTuple):
    """Where a node is, in inches; without a node, where an arrow passes between others."""

    node: Node | None
    x: float
    y: float
    width: float
    height: float


class _Part(NamedTuple):
    """One function: boxes, and arrows as chains of the numbers of boxes from a value to its reader."""

    boxes: list[_Box]
    arrows: list[list[int]]

    @property
    def width(self) -> float:
        return max((box.x + box.width for box in self.boxes), default=0.0)

    @property
    def height(self) -> float:
        return max((box.y + box.height for box in self.boxes), default=0.0)


def _placed(found: list[Node]) -> _Part:
    """Rows by the number of steps before a value (Sugiyama, Tagawa and Toda 1981): arrows go down, past other boxes."""
    rows = _rows(found)
    nodes: list[Node | None] = [*found]
    arrows: list[list[int]] = []
    for i, one in enumerate(found):
        for source in one.sources:
            between = range(rows[source] + 1, rows[i])
            arrows.append([source, *range(len(nodes), len(nodes) + len(between)), i])
            nodes += [None] * len(between)
            rows += between
    near: list[list[int]] = [[] for _ in nodes]
    for chain in arrows:
        for above, below in itertools.pairwise(chain):
            near[above].append(below)
            near[below].append(above)
    sizes = [_size(node) for node in nodes]
    order = [[i for i, row in enumerate(rows) if row == n] for n in range(max(rows, default=-1) + 1)]
    x = [0.0] * len(nodes)
    for sweep in range(_SWEEPS):
        for members in order[:: -1 if sweep % 2 else 1]:
            wanted = {i: _middle(near[i], x, sizes) - sizes[i][0] / 2 if sweep else x[i] for i in members}
            members.sort(key=wanted.__getitem__)
            room = [sizes[i][0] + _BESIDE for i in members]
            for i, position in zip(members, _apart([wanted[i] for i in members], room), strict=True):
                x[i] = position
    left = min(x, default=0.0)
    y, top = [0.0] * len(nodes), 0.0
    for members in order:
        tallest = max(sizes[i][1] for i in members)
        for i in members:
            y[i] = top + (tallest - sizes[i][1]) / 2
        top += tallest + _GAP
    boxes = [_Box(node, x[i] - left, y[i], *sizes[i]) for i, node in enumerate(nodes)]
    return _Part(boxes, arrows)


def _rows(found: list[Node]) -> list[int]:
    """The row of each node; those that read nothing stand above their first reader."""
    if not any(one.sources for one in found):
        return [*range(len(found))]
    rows: list[int] = []
    for one in found:
        rows.append(1 + max((rows[source] for source in one.sources), default=-1))
    for i, one in enumerate(found):
        readers = [rows[j] for j, other in enumerate(found) if i in other.sources]
        if not one.sources and readers:
            rows[i] = max(0, min(readers) - 1)
    return rows


def _size(node: Node | None) -> tuple[float, float]:
    if node is None:
        return 0.05, _LINE
    return max(map(len, node.lines)) * _CHARACTER + 2 * _PAD, len(node.lines) * _LINE + _PAD


def _middle(neighbours: list[int], x: list[float], sizes: list[tuple[float, float]]) -> float:
    """The mean of the middles of boxes."""
    return float(np.mean([x[i] + sizes[i][0] / 2 for i in neighbours])) if neighbours else 0.0


def _apart(wanted: list[float], widths: list[float]) -> list[float]:
    """Positions in ascending order, each at least a width from the next, at the least squared distance to those wanted.

    Subtracting the widths before each makes this an isotonic regression, solved by pooling adjacent violators.
    """
    before = np.concatenate([[0.0], np.cumsum(widths)[:-1]])
    pools: list[tuple[float, int]] = []
    for target in (np.array(wanted) - before).tolist():
        pools.append((target, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (a, n), (b, m) = pools[-2:]
            pools[-2:] = [((a * n + b * m) / (n + m), n + m)]
    return (np.repeat([value for value, _ in pools], [n for _, n in pools]) + before).tolist()


# ---------------------------------------------------------------------------------------------- drawing


def _draw(axes: Axes, part: _Part, left: float, top: float) -> None:
    """Arrows, then boxes."""
    boxes = [box._replace(x=box.x + left, y=box.y + top) for box in part.boxes]
    for chain in part.arrows:
        first = boxes[chain[0]].node
        assert first is not None
        path = _path([boxes[i] for i in chain])
        style: dict[str, Any] = {"arrowstyle": "-|>", "mutation_scale": 8, "lw": 1, "shrinkA": 0, "shrinkB": 0}
        axes.add_patch(FancyArrowPatch(path=path, color=first.colour, **style))
    for node, x, y, width, height in boxes:
        if node is None:
            continue
        look: dict[str, Any] = {
            "facecolor": f"{node.colour}30",
            "edgecolor": node.colour,
            "ls": "-" if node.solid else "--",
        }
        axes.add_patch(
            FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0,rounding_size=0.06", zorder=2, **look)
        )
        for k, text in enumerate(node.lines):
            small = {"fontsize": 7.5, "alpha": 0.7} if k else {"fontsize": 9}
            at = x + _PAD, y + _PAD / 2 + (k + 0.5) * _LINE
            axes.text(*at, text, va="center", zorder=3, family="monospace", color=INK, **small)


def _path(boxes: list[_Box]) -> Path:
    """From the bottom of the first box, through those between, to the top of the last."""
    points = [(box.x + box.width / 2, box.y, box.y + box.height) for box in boxes]
    at = points[0][0], points[0][2]
    vertices, codes = [at], [Path.MOVETO]
    for number, (x, top, bottom) in enumerate(points[1:], 2):
        middle = (at[1] + top) / 2
        vertices += [(at[0], middle), (x, middle), (x, top)]
        codes += [Path.CURVE4] * 3
        at = x, top
        if number < len(points):
            vertices.append((x, bottom))
            codes.append(Path.LINETO)
            at = x, bottom
    return Path(vertices, codes)
