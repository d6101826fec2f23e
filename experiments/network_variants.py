"""The search for a network with one part changed or left out, for `network.py`.

A variant is settings of the preset; where there is no setting, names that are replaced while it runs, or a searcher of
its own. They follow `zero_jax.search.niches` closely, and change when it does.
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np

from zero_jax.program.memory import Interface
from zero_jax.program.programs import Programs
from zero_jax.program.space import SearchSpace
from zero_jax.run import PRESETS
from zero_jax.search import Mutations, NicheSearch
from zero_jax.search.base import register
from zero_jax.search.niche_state import EMPTY, NicheState
from zero_jax.search.operators.learners import settle
from zero_jax.search.operators.predictions import Prediction, predictions
from zero_jax.search.operators.validity import CONDITIONS, conditions

PRESET = PRESETS["teacher"][1].searcher
PAPER_MOVES = ("insert_instruction", "remove_instruction", "alter_param", "randomize_instruction")


@dataclasses.dataclass(frozen=True)
class Variant:
    """How a search differs from the preset.

    Attributes:
      settings: of the run.
      replaced: what stands in place of names in modules, by dotted name.
    """

    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    replaced: dict[str, Any] = dataclasses.field(default_factory=dict)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """While this lasts, names are replaced."""
        with contextlib.ExitStack() as stack:
            for name, value in self.replaced.items():
                stack.enter_context(mock.patch(name, value))
            yield


@register("one population")
class OnePopulation(NicheSearch):
    """Without niches: one population with as many places, and Predict drawn from the same functions.

    The share of children that would migrate draws another Predict; the others keep that of their parent.
    """

    @property
    def functions(self) -> list[Prediction]:
        """What Predict is drawn from."""
        return predictions(self.space, self.niches, self.interface)

    @property
    def predictions(self) -> list[Prediction]:
        """One niche, for all functions."""
        return self.functions[:1]

    def _first(self, *args: Any) -> Any:
        self.__dict__["_draw"] = 1.0, args[-1]
        return super()._first(*args)

    def _children(self, *args: Any) -> Any:
        self.__dict__["_draw"] = self.migration, args[-1]
        return super()._children(*args)

    def _seat(self, programs: Programs, champions: Programs, niches: np.ndarray) -> None:
        share, rng = self.__dict__["_draw"]
        rows = np.flatnonzero(rng.random(len(programs)) < share)
        first, functions = programs.starts[1], self.functions
        for row, number in zip(rows, rng.integers(0, len(functions), len(rows)), strict=True):
            code = functions[number].code
            programs.code[row, first : first + len(code)], programs.length[row, 1] = code, len(code)


@register("setup of instructions")
class SetupOfInstructions(NicheSearch):
    """Without initial values as genes: Setup is searched as the other components are."""

    def __post_init__(self) -> None:
        """Without the check that there are initial values."""

    @classmethod
    def adapted(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """With as many instructions in Setup as there were initial values, give or take some."""
        space = settings["space"]
        n = len(space.genes)
        setup = dataclasses.replace(space.setup, size=(1, n, n + 4))
        return settings | {"space": dataclasses.replace(space, setup=setup, initial_values=False)}


def vary_setup(
    programs: Programs, space: SearchSpace, spread: float, redrawn: float, keep: int, rng: np.random.Generator
) -> None:
    """As `vary_initial_values`, for Setup's instructions: scales their constants."""
    rows = np.flatnonzero(np.arange(len(programs)) % keep)
    setup = programs.data[:, : programs.starts[1]]
    setup[rows] *= np.exp(spread * rng.normal(size=setup[rows].shape)).astype(np.float32)


@register("equal niches")
class EqualNiches(NicheSearch):
    """Every niche gets as many children: the ranks are drawn anew for each cohort."""

    def _children(self, state: NicheState, known: np.ndarray, rng: np.random.Generator) -> Any:
        drawn = rng.random(len(state.champion_fitness))
        ranked = np.where(state.champion_fitness > EMPTY, drawn, EMPTY)
        children, niches, after = super()._children(dataclasses.replace(state, champion_fitness=ranked), known, rng)
        return children, niches, dataclasses.replace(state, credit=after.credit)


def anything(programs: Programs, interface: Interface | None = None) -> np.ndarray:
    """As if every program could learn."""
    return np.full(len(programs), CONDITIONS)


def all_new(programs: Programs, known: np.ndarray, interface: Interface | None = None) -> tuple[np.ndarray, np.ndarray]:
    """As `new_learners`, as if no two programs were the same."""
    numbers = np.random.default_rng(len(programs)).integers(2**63, 2**64, len(programs), np.uint64, endpoint=False)
    return conditions(programs, interface) == CONDITIONS, numbers


def settle_anywhere(
    fitness: Any, structures: Any, ring: Any, niches: Any, new: Any, own: Any, best: Any, owners: Any
) -> None:
    """As `settle`, but every new structure takes a place of its own, whatever it does."""
    settle(fitness, structures, ring, niches, new, np.full_like(own, EMPTY), best, owners)


def _paper_moves() -> Mutations:
    weights = PRESET.mutations.weights or [1.0] * len(PRESET.mutations.types)
    kept = [(t, w) for t, w in zip(PRESET.mutations.types, weights, strict=True) if t in PAPER_MOVES]
    return dataclasses.replace(PRESET.mutations, types=tuple(t for t, _ in kept), weights=tuple(w for _, w in kept))


_LEARNERS, _NICHES = "zero_jax.search.operators.learners", "zero_jax.search.niches"
_EVOLUTION: dict[str, Any] = {"tournament": 10, "mutations": Mutations()}
VARIANTS = {
    "niche search": Variant(),
    "no niches": Variant({"method": "one population", "niche_size": 5_000}),
    "no initial values as genes": Variant(
        {"method": "setup of instructions"},
        {f"{_NICHES}.vary_initial_values": vary_setup, f"{_LEARNERS}.vary_initial_values": vary_setup},
    ),
    "no validity filter": Variant({}, {f"{_LEARNERS}.conditions": anything}),
    "no canonical filter": Variant({"cache_size": 0}, {f"{_LEARNERS}.new_learners": all_new}),
    "all examples": Variant({"fidelity": ((1.0, 1.0),)}),
    "one rung": Variant({"fidelity": ((0.5, 0.1),)}),
    "the paper's moves": Variant({"mutations": _paper_moves()}),
    "no tuning": Variant({}, {f"{_NICHES}.VARIANTS": 1, f"{_NICHES}.SPREADS": (1.0,)}),
    "no migration": Variant({"migration": 0.0}),
    "four sets": Variant({"sets": 4}),
    "variations that do the same": Variant({}, {"zero_jax.search.niche_state.settle": settle_anywhere}),
    "equal niches": Variant({"method": "equal niches"}),
    "efficient": Variant({"method": "efficient", "population": 100, "cohort": 10} | _EVOLUTION),
    "evolution": Variant({"method": "evolution", "population": 1000, "cohort": 100} | _EVOLUTION),
}
"""Names and variants. Without tuning, the champions of the best niches are still evaluated in full from time to time,
as they are: nothing else decides which program is the best."""
