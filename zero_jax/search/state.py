"""What a search carries from one call to the next, and its form on disk.

Axes: `I` islands, `P` programs per island.
"""

import dataclasses
from pathlib import Path
from typing import Any, cast

import numpy as np

from zero_jax import files
from zero_jax.bounds import check_bytes
from zero_jax.given import real_array
from zero_jax.programs import Programs, SearchSpace, program_bytes, programs_from, programs_tree
from zero_jax.search import lineage
from zero_jax.search.lineage import Ancestor, Lines

SCHEMA = 4
"""The version that a saved state carries."""


@dataclasses.dataclass(frozen=True, eq=False)
class Niches:
    """What `EfficientEvolution` knows of programs; never changed in place.

    Attributes:
      structures: `[I * P]` uint64, hashes of the structures of the population.
      ring: `[I]` int64, the place of each island that the next program takes that has no niche yet.
      known: uint64, hashes of programs asked for, each in the place that its last bits say.
      asked_structures: `[n]` of the programs asked for last.
      vector_labels: whether programs are for tasks with vector labels.
      stale: how many programs in a row were asked for although nothing new was found.
    """

    structures: np.ndarray
    ring: np.ndarray
    known: np.ndarray
    asked_structures: np.ndarray
    vector_labels: bool = False
    stale: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class SearchState:
    """Everything a search continues from; never changed in place.

    Attributes:
      population: `I * P` programs, island by island; in each island a ring in order of age.
      fitness: `[I, P]` float64, NaN where not evaluated yet.
      oldest: where in the ring the oldest program of every island is: the next to be replaced.
      evaluations: how many programs have been told.
      best: a batch of the one best program so far, on any island.
      best_fitness: its fitness; -inf before the first is told.
      rng: the state of the NumPy generator.
      lines: what each program descends from; None for a search without descent.
      best_line: the line of descent that ends in the best.
      niches: None but for `EfficientEvolution`.
    """

    population: Programs
    fitness: np.ndarray
    oldest: int
    evaluations: int
    best: Programs
    best_fitness: float
    rng: dict[str, Any]
    lines: Lines | None = None
    best_line: Ancestor | None = None
    niches: Niches | None = None

    def generator(self) -> np.random.Generator:
        """A generator that goes on from `rng`."""
        bits = np.random.PCG64(0)
        bits.state = cast(Any, self.rng)
        return np.random.Generator(bits)

    def tree(self) -> dict[str, Any]:
        """All of it as arrays and plain values, as `zero_jax.files.packed` takes them."""
        plain = {name: getattr(self, name) for name in ("fitness", "oldest", "evaluations", "best_fitness", "rng")}
        programs = {"population": programs_tree(self.population), "best": programs_tree(self.best)}
        niches = None if self.niches is None else dict(vars(self.niches))
        return plain | programs | {"lines": lineage.lines_tree(self.lines, self.best_line), "niches": niches}

    @classmethod
    def from_tree(cls, tree: dict[str, Any]) -> "SearchState":
        """The inverse of `tree`.

        Raises:
          ValueError: programs that are none.
        """
        programs = {name: programs_from(tree[name]) for name in ("population", "best")}
        lines, best_line = lineage.lines_from(tree["lines"])
        niches = Niches(**tree["niches"]) if tree["niches"] else None
        return cls(**{**tree, **programs, "lines": lines, "best_line": best_line, "niches": niches})

    def save(self, path: str | Path) -> None:
        """Writes the state as NPZ, atomically."""
        files.write_atomically(Path(path), files.packed({"schema": SCHEMA, "state": self.tree()}))

    @classmethod
    def load(cls, path: str | Path) -> "SearchState":
        """The inverse of `save`.

        Raises:
          ValueError: a file that is damaged, no saved state, or of another schema.
        """
        data = Path(path).read_bytes()
        try:
            stored = files.unpacked(data)
            if stored["schema"] != SCHEMA:
                raise ValueError(f"schema {stored['schema']} is not {SCHEMA}, which this version reads")
            return cls.from_tree(stored["state"])
        except Exception as error:
            raise ValueError(f"{path} is not a saved search: {error}") from error


def check_population(space: SearchSpace, islands: int, population: int) -> None:
    """Refuses more programs than memory allows, before there are any.

    Raises:
      ValueError: if so.
    """
    what = f"{islands:,} islands of {population:,} programs of up to {sum(space.capacity):,} instructions"
    check_bytes(what, islands * population * program_bytes(space.capacity), "take fewer islands or programs")


def checked_fitness(programs: Programs, told: Any) -> np.ndarray:
    """`[n]` float64.

    Raises:
      ValueError: a fitness that is NaN or infinite, or not one for each program.
    """
    fitness = real_array("fitness", told).astype(np.float64)
    if fitness.shape != (len(programs),):
        shape = f"an array of shape {fitness.shape}"
        raise ValueError(f"fitness must be {len(programs)} numbers, one for each program asked for, not {shape}")
    wrong = np.flatnonzero(~np.isfinite(fitness))
    if len(wrong):
        raise ValueError(
            f"fitness must be {len(programs)} numbers, all of them finite, but that of program {wrong[0]} is "
            f"{fitness[wrong[0]]}"
        )
    return fitness


def with_results(
    state: SearchState, programs: Programs, told: np.ndarray, lines: Lines | None = None, /, **changes: Any
) -> SearchState:
    """The state after `programs` were told to have the fitness `told` `[n]`: counts them and keeps the best, and its
    line by the `lines` of these programs, if they have any.
    """
    winner, evaluations = int(np.argmax(told)), state.evaluations + len(programs)
    if told[winner] > state.best_fitness:
        best, fitness = programs[winner], float(told[winner])
        line = lineage.ending_in(lines, winner, best, fitness, evaluations)
        changes |= {"best": best, "best_fitness": fitness, "best_line": line}
    return dataclasses.replace(state, evaluations=evaluations, **changes)
