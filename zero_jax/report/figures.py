"""The figures of the page, each an SVG that inherits its text colour from the page."""

import io
import re
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, PercentFormatter, ScalarFormatter

from zero_jax.program import graph as drawing
from zero_jax.program.memory import Interface
from zero_jax.program.programs import Programs

BLUE, ORANGE, GREEN, RED, PURPLE, GREY = "#3d85c6", "#e08a2b", "#3f9e5f", "#cf5050", "#8e6bbf", "#8a8a8a"
"""Colours that are legible on white and on black."""

SHARES = {"trained": BLUE, "repeated": PURPLE, "known": GREEN, "equivalent": ORANGE, "over_budget": RED}
"""The fate of each program that is asked for, and its colour."""

MANY = 40
"""A figure draws at most this many lines, picked evenly."""

_INK = drawing.INK
"""A placeholder for the page's text colour until the SVG is written."""

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 10,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GREY,
    "grid.alpha": 0.25,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "legend.frameon": False,
}

_WHOLE_RUN = "programs asked for, in the whole run"

CLOSE = 1e-7
"""Distances to 1 below this are shown as equal: float32 resolves no more."""


def nines(fitness: Any) -> Any:
    """The number of nines of a fitness: 0.9 has one, 0.99 two. They grow evenly from a random program to a solution."""
    return -np.log10(np.maximum(1 - np.asarray(fitness, np.float64), CLOSE))


def is_close(fitness: float) -> bool:
    """Whether a fitness is close enough to 1 to be drawn by its nines."""
    return bool(fitness > 0.99)


def overview(records: pd.DataFrame, trial: int) -> Markup:
    """The best fitness of every trial against evaluations; one trial is drawn in colour."""

    def draw(axes: Axes) -> None:
        groups = list(records.groupby("trial"))
        for k, (_, group) in enumerate(_picked([group for group in groups if group[0] != trial])):
            label = "other trials" if k == 0 else None
            axes.plot(group.evaluations, group.best_fitness, color=GREY, alpha=0.7, lw=1, label=label)
        one = records[records.trial == trial]
        axes.plot(one.evaluations, one.best_fitness, color=BLUE, lw=2, label=f"trial {trial}")
        _mark_beginnings(axes, groups, records.evaluations.max())
        _fitness_scale(axes, records.best_fitness)

    return _svg("overview", draw, _WHOLE_RUN, "best fitness on T_search")


def progress(records: pd.DataFrame) -> Markup:
    """The fitness of the best program and of the population against evaluations, in one trial."""

    def draw(axes: Axes) -> None:
        for low, high, alpha, label in (("least", "greatest", 0.12, "population: all"),
                                        ("quarter", "three_quarters", 0.25, "population: middle half")):  # fmt: skip
            axes.fill_between(
                records.evaluations, records[low], records[high], color=BLUE, alpha=alpha, lw=0, label=label
            )
        axes.plot(records.evaluations, records["median"], color=BLUE, lw=1, ls="--", label="population: median")
        axes.plot(records.evaluations, records.best_fitness, color=BLUE, lw=2, label="best so far")
        _fitness_scale(axes, pd.concat([records.quarter, records.three_quarters, records.best_fitness]))

    return _svg("progress", draw, _WHOLE_RUN, "fitness on T_search")


def _mark_beginnings(axes: Axes, groups: Sequence[tuple[int, pd.DataFrame]], last: int) -> None:
    """Writes the number of each trial above its start, where there is room."""
    room = -1.0
    for number, group in groups:
        first = group.evaluations.iloc[0]
        if first >= room:
            axes.axvline(first, color=GREY, alpha=0.4, lw=0.7, ls=":")
            axes.annotate(str(number), (first, 1), xycoords=("data", "axes fraction"), xytext=(0, 3),
                          textcoords="offset points", ha="center", fontsize=8)  # fmt: skip
            room = first + last * (1 + len(str(number))) / 60


def islands(records: pd.DataFrame) -> Markup:
    """The median fitness of each island of one trial."""

    def draw(axes: Axes) -> None:
        known = records[records.islands.map(len) > 0]
        rows = ([island[2] for island in row] for row in known.islands)
        medians = list(zip_longest(*rows, fillvalue=np.nan))  # one entry per island
        for column in _picked(medians):
            axes.plot(known.evaluations, column, lw=1, alpha=0.7)
        axes.plot(known.evaluations, known["median"], color=_INK, lw=1.5, label="all islands")
        _fitness_scale(axes, medians)

    return _svg("islands", draw, _WHOLE_RUN, "median fitness of an island")


def work(records: pd.DataFrame) -> Markup:
    """The fates of programs between consecutive records, and the diversity of the population."""

    def draw(axes: Axes) -> None:
        before = dict.fromkeys(("evaluations", *SHARES), 0)
        counts = pd.concat([pd.DataFrame([before]), records[list(before)]]).diff().iloc[1:]
        shares = counts[list(SHARES)].div(counts.evaluations.where(counts.evaluations > 0), axis=0).fillna(0)
        used = [name for name in SHARES if shares[name].any()]
        axes.stackplot(records.evaluations, *(shares[name] for name in used), colors=[SHARES[n] for n in used],
                       labels=[name.replace("_", " ") for name in used], alpha=0.55, lw=0)  # fmt: skip
        axes.plot(records.evaluations, records.diversity, color=_INK, lw=1.2, label="diversity")
        axes.set_ylim(0, 1)
        axes.yaxis.set_major_formatter(PercentFormatter(1, 0))

    return _svg("work", draw, _WHOLE_RUN, "share")


def front(hall: pd.DataFrame) -> Markup:
    """Fitness against cost, with the Pareto front as steps."""

    def draw(axes: Axes) -> None:
        best, others = hall[hall.best], hall[~hall.pareto]
        steps = hall[hall.pareto].sort_values(["cost", "search_fitness"])
        axes.scatter(others.cost, others.search_fitness, s=22, color=GREY, alpha=0.7, lw=0, label="other good programs")
        axes.step(steps.cost, steps.search_fitness, where="post", color=BLUE, lw=1.2)
        axes.scatter(steps.cost, steps.search_fitness, s=36, color=BLUE, lw=0, zorder=3, label="Pareto front")
        axes.scatter(best.cost, best.search_fitness, s=80, facecolors="none", edgecolors=ORANGE, lw=1.4, zorder=4,
                     label="best by fitness")  # fmt: skip
        axes.set_xlim(left=0)
        _fitness_scale(axes, hall.search_fitness)

    return _svg("front", draw, "cost, in multiples of the 2-layer network's", "fitness on T_search")


def lineage(steps: pd.DataFrame) -> Markup:
    """The fitness of those ancestors of the best program that beat all of their own."""

    def draw(axes: Axes) -> None:
        axes.step(steps.evaluations, steps.fitness, where="post", color=BLUE, lw=1.2)
        axes.scatter(steps.evaluations, steps.fitness, s=26, color=BLUE, lw=0, zorder=3)
        _fitness_scale(axes, steps.fitness)
        if steps.evaluations.iloc[-1] > 50 * steps.evaluations.iloc[0] > 0:  # most gains come early
            axes.set_xscale("log")

    return _svg("lineage", draw, "programs asked for, in this trial", "fitness on T_search", legend=False)


def _picked(items: Sequence) -> Sequence:
    """At most `MANY` items, picked evenly."""
    return [items[i] for i in np.unique(np.linspace(0, len(items) - 1, MANY).astype(int))] if items else []


def _fitness_scale(axes: Axes, shown: Any) -> None:
    """Sets limits that fit the values with some margin; uses nines where the best is close to 1."""
    values = np.ravel(shown)
    low, high = (float(f(np.clip(values[np.isfinite(values)], 0, 1), initial=i)) for f, i in ((np.min, 1), (np.max, 0)))
    low, high = min(low, high), max(low, high)
    if not is_close(high):
        room = 0.04 * max(high - low, 1e-3)
        axes.set_ylim(low - room, high + room)
        return
    axes.set_yscale("function", functions=(nines, lambda y: 1 - 10.0**-y))
    ticks = [0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_ylim(max(low - 0.02, 0), 1 - 10.0 ** -(nines(high) + 0.2))


def graph(program: Programs, interface: Interface | None) -> Markup:
    """The flow of data in a program."""
    return _markup("graph", drawing.graph(program, interface))


def _svg(name: str, draw: Callable[[Axes], None], x: str, y: str, legend: bool = True) -> Markup:
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(9, 4), layout="constrained")
        axes = figure.subplots()
        draw(axes)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.xaxis.set_major_formatter(EngFormatter(sep="") if axes.get_xlim()[1] > 1000 else ScalarFormatter())
        if legend:
            axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
        return _markup(name, figure)


def _markup(name: str, figure: Figure) -> Markup:
    """A figure as SVG, with the page's colour in place of the ink."""
    buffer = io.StringIO()
    # Figures in one page must not share ids.
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    return Markup(re.sub(r'<g id="[^"]*"', "<g", text).replace(_INK, "currentColor"))
