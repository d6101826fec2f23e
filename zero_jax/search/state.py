"""What a search carries from one call to the next, and its form on disk.

Axes: `I` islands, `P` programs per island.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from zero_jax.program.memory import COMPONENTS, Interface
from zero_jax.program.programs import Programs, program_bytes, programs_from, programs_tree
from zero_jax.program.space import SearchSpace
from zero_jax.search.operators import lineage
from zero_jax.search.operators.lineage import Ancestor, Lines
from zero_jax.support import files
from zero_jax.support.bounds import check_bytes
from zero_jax.support.checked import Fields, shown
from zero_jax.support.given import real_array

SCHEMA = 6
"""The version that a saved state carries."""


@dataclasses.dataclass(frozen=True, eq=False)
class Niches:
    """What `EfficientEvolution` knows of programs; never changed in place.

    Attributes:
      structures: `[I * P]` uint64, hashes of the structures of the population.
      ring: `[I]` int64, the place of each island that the next program takes that has no niche yet.
      known: uint64, hashes of programs asked for, each in the place that its last bits say.
      asked_structures: `[n]` of the programs asked for last.
      interface: where label, features and prediction of the programs live.
      stale: how many programs in a row were asked for although nothing new was found.
    """

    structures: np.ndarray
    ring: np.ndarray
    known: np.ndarray
    asked_structures: np.ndarray
    interface: Interface
    stale: int = 0

    @classmethod
    def from_tree(cls, tree: Any, islands: int, population: int, where: str = "niches") -> "Niches":
        """What `vars` told of those of so many islands.

        Raises:
          ValueError: anything that it does not tell.
        """
        told = Fields(tree, where, [field.name for field in dataclasses.fields(cls)])
        return cls(
            told.array("structures", np.uint64, (islands * population,)),
            told.array("ring", np.int64, (islands,), least=0, most=population - 1),
            told.array("known", np.uint64, (None,)),
            told.array("asked_structures", np.uint64, (None,)),
            Interface(*told.wholes("interface", 3)),
            told.whole("stale"),
        )


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
        """All of it as arrays and plain values, as `zero_jax.support.files.packed` takes them."""
        plain = {name: getattr(self, name) for name in ("fitness", "oldest", "evaluations", "best_fitness", "rng")}
        programs = {"population": programs_tree(self.population), "best": programs_tree(self.best)}
        niches = None if self.niches is None else dict(vars(self.niches))
        return plain | programs | {"lines": lineage.lines_tree(self.lines, self.best_line), "niches": niches}

    @classmethod
    def from_tree(cls, tree: Any, where: str = "state") -> "SearchState":
        """The inverse of `tree`. Whether it fits a search is for the search's `check` to say.

        Raises:
          ValueError: anything that `tree` does not give.
        """
        told = Fields(tree, where, [f.name for f in dataclasses.fields(cls) if f.name != "best_line"])
        evaluations = told.whole("evaluations")
        fitness = told.array("fitness", np.float64, (None, None), finite=evaluations > 0)
        islands, size = fitness.shape
        if not fitness.size or not (evaluations or np.isnan(fitness).all()):
            raise ValueError(f"{told.where('fitness')} has programs before any were evaluated, or none at all")
        population = programs_from(told["population"], None, told.where("population"), islands * size)
        best = programs_from(told["best"], population, told.where("best"), 1)
        lines, best_line = lineage.lines_from(told["lines"], population, told.where("lines"))
        best_fitness = told.number("best_fitness") if evaluations else told["best_fitness"]
        if not (evaluations or repr(best_fitness) == "-inf") or (best_line is None) != (evaluations == 0):
            raise ValueError(f"{where} has a best program before any were evaluated, or none after")
        niches = told["niches"]
        if niches is not None:
            niches = Niches.from_tree(niches, islands, size, told.where("niches"))
        oldest, rng = told.whole("oldest", most=size - 1), _generator_state(told["rng"], told.where("rng"))
        return cls(population, fitness, oldest, evaluations, best, best_fitness, rng, lines, best_line, niches)

    def __reduce__(self) -> tuple[Any, ...]:
        """As a tree: see `Ancestor`."""
        return SearchState.from_tree, (self.tree(),)

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
            if isinstance(stored, dict) and stored.get("schema", SCHEMA) != SCHEMA:
                raise ValueError(f"schema {shown(stored['schema'])} is not {SCHEMA}, which this version reads")
            return cls.from_tree(Fields(stored, "it", ("schema", "state"))["state"])
        except ValueError as error:
            raise ValueError(f"{path} is not a saved search: {error}") from error


def _generator_state(tree: Any, where: str) -> dict[str, Any]:
    """The state of a PCG64, as NumPy tells it."""
    told = Fields(tree, where, ("bit_generator", "state", "has_uint32", "uinteger"))
    numbers = Fields(told["state"], told.where("state"), ("state", "inc"))
    state, increment = (numbers.whole(name, most=2**128 - 1) for name in ("state", "inc"))
    if repr(told["bit_generator"]) != "'PCG64'" or increment % 2 == 0:
        raise ValueError(f"{where} is not the state of a PCG64")
    rest = {"has_uint32": told.whole("has_uint32", most=1), "uinteger": told.whole("uinteger", most=2**32 - 1)}
    return {"bit_generator": "PCG64", "state": {"state": state, "inc": increment}} | rest


def check_sizes(state: SearchState, space: SearchSpace, islands: int, population: int) -> None:
    """Refuses a state whose arrays are not those of a search: compiled loops go by the sizes of the search.

    Raises:
      ValueError: saying what differs.
    """
    told = state.population
    for name, has, wants in (
        ("programs of capacity", told.capacity, space.capacity),
        ("programs of memory", told.memory, space.memory),
        ("islands and programs of each", state.fitness.shape, (islands, population)),
    ):
        if tuple(has) != tuple(wants):
            raise ValueError(f"the state is of another search: {name} {tuple(has)}, not {tuple(wants)}")


def check_ops(programs: Programs, ops: Sequence[Sequence[int]]) -> None:
    """Refuses programs with other ops than these of each component, and NO_OP.

    Raises:
      ValueError: naming the first.
    """
    starts, code = programs.starts, np.asarray(programs.code)
    for name, allowed, first, last in zip(COMPONENTS, ops, starts[:3], starts[1:], strict=True):
        others = np.setdiff1d(code[:, first:last, 0], [0, *allowed])
        if len(others):
            raise ValueError(f"the state is of another search: op {others[0]} in {name}, which this one does not use")


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
