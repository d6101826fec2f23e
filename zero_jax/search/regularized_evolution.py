"""Regularized evolution (Real et al. 2019) with islands on the batch axis.

Axes: `I` islands, `P` programs per island, `C` children per island and cohort, `T` draws per tournament.
"""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import numpy as np

from zero_jax.evaluation.base import Candidates, Scores
from zero_jax.program import library
from zero_jax.program.programs import Programs
from zero_jax.program.space import SearchSpace, random_programs
from zero_jax.search.base import Rng, Searcher, State, combined, register, with_scores
from zero_jax.search.checks import check_layout, check_population
from zero_jax.search.operators import credit, migration
from zero_jax.search.operators.credit import Credit
from zero_jax.search.operators.lineage import Lines, first_lines, inherited
from zero_jax.search.operators.mutation import Mutations, mutate_in_place
from zero_jax.search.operators.population import Individuals, unevaluated
from zero_jax.search.operators.records import put
from zero_jax.search.operators.selection import MOST_DRAWS, hold_tournaments
from zero_jax.support.bounds import check_number
from zero_jax.support.codec import Array, Range, decode
from zero_jax.support.foreign import shown


@dataclasses.dataclass(frozen=True, eq=False)
class EvolutionState(State):
    """The state of a search with a population on islands.

    Attributes:
      individuals: `I * P`, island by island; each island is a ring in order of age.
      islands: I.
      oldest: the place of the oldest program in the ring of every island: the next to be replaced.
      parents: int64 `[I * C]`, the rows of the parents of the children asked for last; empty before the first.
      credit: which mutation types succeed; None unless their frequencies adapt.
    """

    individuals: Individuals
    islands: Annotated[int, Range(1)]
    oldest: Annotated[int, Range(0)]
    parents: Annotated[np.ndarray, Array(np.int64, ("C",), least=0)]
    credit: Credit | None = dataclasses.field(default=None, kw_only=True)

    @property
    def programs(self) -> Programs:
        """The `I * P` programs of the population."""
        return self.individuals.programs

    @property
    def fitness(self) -> np.ndarray:
        """`[I, P]` float64, NaN before the first evaluation."""
        return self.individuals.fitness.reshape(self.islands, -1)

    @property
    def hashes(self) -> np.ndarray:
        """`[I * P]` uint64, of the canonical forms."""
        return self.individuals.hashes

    @property
    def lines(self) -> Lines:
        """What the programs descend from."""
        return self.individuals.lines

    def origins(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """As in `HasLineage`."""
        if not self.evaluations:
            return None
        parents = self.parents[rows]
        return self.lines.ancestors[parents], self.lines.births[parents] + 1

    def validate(self) -> None:
        """As in `State`."""
        super().validate()
        size, rest = divmod(len(self.individuals), self.islands)
        if rest or not self.oldest < size or self.individuals.evaluated != (self.evaluations > 0):
            raise ValueError("islands, oldest, or which programs were evaluated, do not fit its individuals")
        if (self.parents >= len(self.individuals)).any():
            raise ValueError(f"parents has {self.parents.max()}, more than {len(self.individuals) - 1}")


@register("evolution")
@dataclasses.dataclass(frozen=True)
class RegularizedEvolution(Searcher):
    """I independent populations of P programs that age, compete in tournaments and mutate.

    For each of C children an island draws T programs with replacement; the fittest (of equals, the first drawn) is
    copied and mutated. The children are evaluated in one call and replace the C oldest programs. C = 1 is the paper's
    algorithm, C = P a generation. Every program, the ones about to die included, competes.

    Attributes:
      space: The program space.
      islands: Number of populations that evolve in parallel (I).
      population: Number of programs on each island (P).
      tournament: Number of programs that compete to become a parent (T).
      cohort: Number of children per island and evaluation (C). Each replaces the oldest program.
      mutations: How children differ from their parents.
      initial: The first programs: random, no_op, linear, network, the path of a program, or the folder of a run, for
        its best program. A file may hold several programs: islands take them in turn. All but random ones are padded
        with NO_OP to the initial sizes. In Python, also the text of a program, of several lines, or `Programs`.

    Raises:
      ValueError: a number below 1 or beyond `bounds.BOUNDS`, a cohort larger than the population, more memory
        than is allowed, an initial program that does not fit the space.

    Example:
      >>> from zero_jax import Component, SearchSpace
      >>> setup, predict = Component(["SCALAR_CONST_SET"], (1, 2, 2)), Component(["VECTOR_INNER_PRODUCT"], (1, 1, 1))
      >>> learn = Component(["SCALAR_DIFF", "SCALAR_PRODUCT", "SCALAR_VECTOR_PRODUCT", "VECTOR_SUM"], (1, 4, 4))
      >>> space = SearchSpace((4, 3, 1), setup, predict, learn)
      >>> search = RegularizedEvolution(space, islands=2, population=10, tournament=3, cohort=5)
      >>> state = search.init(seed=0)
      >>> state, candidates = search.ask(state)             # all 20 of the first population
      >>> state = search.tell(state, candidates, Scores.of(np.zeros(20)))
      >>> state, children = search.ask(state)               # 5 children of each island
      >>> len(candidates), len(children)
      (20, 10)
    """

    islands: int = 1
    population: int = 1000
    tournament: int = 10
    cohort: int = 100
    mutations: Mutations = Mutations()
    initial: str | Programs = "random"

    state_type: ClassVar[type[State]] = EvolutionState
    individuals_type: ClassVar[type[Individuals]] = Individuals

    def __post_init__(self) -> None:
        for name in ("islands", "population", "tournament", "cohort"):
            check_number(name, getattr(self, name))
        if self.cohort > self.population:
            raise ValueError(f"a cohort of {self.cohort} does not fit into a population of {self.population}")
        check_population(self.space, self.islands, self.population)
        draws = self.islands * self.cohort * self.tournament
        if draws > MOST_DRAWS:
            raise ValueError(
                f"{self.islands:,} islands x cohort {self.cohort:,} x tournament {self.tournament:,} are {draws:,} "
                f"draws at a time; {MOST_DRAWS:,} are allowed: take a smaller tournament or cohort"
            )
        if not any(self.space.ops):
            raise ValueError("no component of the space has ops, so nothing can be mutated")
        first = first_programs(self.space, self.initial)
        if first is not None and len(first) > self.population:
            raise ValueError(f"{len(first)} initial programs do not fit into a population of {self.population}")

    @property
    def ops(self) -> tuple[tuple[int, ...], ...]:
        """The ops that programs of each component can hold: those of the space and of the initial programs."""
        first = first_programs(self.space, self.initial)
        if first is None:
            return self.space.ops
        parts = zip(self.space.ops, first.starts[:3], first.starts[1:], strict=True)
        return tuple(tuple(sorted({*allowed, *np.unique(first.code[:, a:b, 0]).tolist()})) for allowed, a, b in parts)

    def init(self, seed: int | np.random.SeedSequence) -> Any:
        """The state before the first evaluation: the first population, drawn from `seed`."""
        rng = np.random.default_rng(seed)
        first = first_programs(self.space, self.initial)
        n = self.islands * self.population
        programs = random_programs(self.space, n, rng) if first is None else first[self.taken_in_turn(first)]
        individuals = self.unevaluated(programs)
        known, no_parents = credit.start(self.mutations), np.zeros(0, np.int64)
        return self.state_type(  # type: ignore[call-arg]
            0, None, Rng.of(rng), individuals, self.islands, 0, no_parents, credit=known
        )

    def unevaluated(self, programs: Programs) -> Individuals:
        """The first individuals, before their evaluation."""
        return unevaluated(programs)

    def traits(self, state: Any, candidates: Candidates, scores: Scores) -> dict[str, np.ndarray]:
        """What individuals of `individuals_type` have besides what all have, from the scores of the last candidates."""
        return {}

    def value(self, individuals: Any) -> np.ndarray:
        """`[N]` what the best program has most of."""
        return np.asarray(individuals.fitness)

    def worth(self, individuals: Any) -> np.ndarray:
        """`[N]` what tournaments compare."""
        return self.value(individuals)

    def taken_in_turn(self, first: Programs) -> np.ndarray:
        """`[I * P]` which initial program stands in each place."""
        return np.tile(np.arange(self.population) % len(first), self.islands)

    def check_kind(self, state: EvolutionState) -> None:
        """Also refuses a state of other sizes, which compiled loops rely on."""
        super().check_kind(state)
        check_layout(state.programs, self.space)
        sizes, expected = state.fitness.shape, (self.islands, self.population)
        if sizes != expected:
            raise ValueError(f"the state is of another search: islands and programs of each {sizes}, not {expected}")

    def check(self, state: EvolutionState) -> None:
        """As in `Searcher`."""
        super().check(state)
        if len(state.parents) not in (0, self.islands * self.cohort):
            raise ValueError(f"the state is of another search: {len(state.parents)} children were asked for last")
        credit.check(state.credit, self.mutations, self.islands * self.cohort)
        if state.evaluations and (self.candidates(state.programs).hashes != state.hashes).any():
            raise ValueError("the state is of another search: its hashes are not those of its programs")

    def ask(self, state: EvolutionState) -> tuple[Any, Candidates]:
        """The candidates to evaluate next.

        Returns:
          The state, its generator advanced, and the first population (I * P programs) or else the children (I * C),
          island by island.

        Raises:
          ValueError: the state of a search of other sizes.
        """
        self.check_kind(state)
        if state.evaluations == 0:
            return state, self.candidates(state.programs)
        rng = state.generator()
        parents = self.parents(state, rng)
        children = state.programs[parents]  # copies
        weights = credit.weights(state.credit, self.mutations)
        applied = mutate_in_place(children, self.space, self.mutations, rng, self.interface, weights)
        return self.asked(state, rng, parents, applied), self.candidates(children)

    def parents(self, state: Any, rng: np.random.Generator) -> np.ndarray:
        """`[I * C]` the rows of those that have children, island by island."""
        worth = self.worth(state.individuals).reshape(self.islands, -1)
        return hold_tournaments(worth, self.tournament, self.islands * self.cohort, rng)

    def asked(
        self, state: Any, rng: np.random.Generator, parents: np.ndarray, applied: np.ndarray, **changes: Any
    ) -> Any:
        """The state after children have been asked for."""
        known = credit.asked(state.credit, applied, state.individuals.fitness[parents])
        return dataclasses.replace(state, rng=Rng.of(rng), parents=parents, credit=known, **changes)

    def tell(self, state: EvolutionState, candidates: Candidates, scores: Scores) -> Any:
        """The state after the evaluation of the candidates: children replace the oldest programs of their island.

        Raises:
          ValueError: a fitness that is NaN or infinite, or not one for each candidate asked for.
        """
        fitness = combined(candidates, scores)
        if state.evaluations == 0:
            return self.with_first(state, candidates, scores)
        children = self.children(state, candidates, scores)
        slots = (state.oldest + np.arange(self.cohort)) % self.population
        rows = (np.arange(self.islands)[:, None] * self.population + slots).reshape(-1)
        whole = self.cohort == self.population  # a generation: nothing of the old one is left
        individuals = children if whole else put(state.individuals, rows, children)
        oldest = 0 if whole else (state.oldest + self.cohort) % self.population
        changes = {"individuals": individuals, "oldest": oldest, "credit": credit.settled(state.credit, fitness)}
        return with_scores(state, candidates, fitness, children.lines, self.value(children), **changes)

    def with_first(self, state: EvolutionState, candidates: Candidates, scores: Scores) -> Any:
        """The state after the evaluation of the first population."""
        fitness = combined(candidates, scores)
        if len(candidates) != len(state.individuals):
            raise ValueError(f"{len(state.individuals)} candidates were asked for, not {len(candidates)}")
        lines = first_lines(candidates.programs, fitness)
        known: dict[str, Any] = {
            "programs": candidates.programs,
            "fitness": fitness,
            "hashes": candidates.hashes,
            "lines": lines,
            **self.traits(state, candidates, scores),
        }
        individuals = dataclasses.replace(state.individuals, **known)
        return with_scores(state, candidates, fitness, lines, self.value(individuals), individuals=individuals)

    def children(self, state: EvolutionState, candidates: Candidates, scores: Scores) -> Any:
        """The children asked for last, as individuals without niches."""
        fitness = combined(candidates, scores)
        if len(candidates) != self.islands * self.cohort:
            raise ValueError(f"{self.islands * self.cohort} candidates were asked for, not {len(candidates)}")
        evaluations = state.evaluations + len(candidates)
        lines = inherited(state.lines, state.parents, candidates.programs, fitness, evaluations)
        traits = self.traits(state, candidates, scores)
        return self.individuals_type(candidates.programs, fitness, candidates.hashes, lines, **traits)

    # ------------------------------------------------------------------------------------------ islands

    def part(self, n: int) -> "RegularizedEvolution":
        """The searcher of one of `n` equal parts of the islands.

        Raises:
          ValueError: islands that cannot be divided evenly.
        """
        if self.islands % n:
            raise ValueError(f"{self.islands} islands cannot be divided into {n} equal parts")
        return dataclasses.replace(self, islands=self.islands // n)

    def migrate(self, states: Sequence[Any], rng: np.random.Generator) -> list[Any]:
        """As in `Islands`."""
        return migration.migrate(states, rng)

    def offered(self, states: Sequence[Any], rng: np.random.Generator) -> Individuals:
        """As in `Islands`."""
        return migration.offered(states, rng)

    def taken(self, states: Sequence[Any], offers: Sequence[Individuals], rng: np.random.Generator) -> list[Any]:
        """As in `Islands`."""
        return migration.taken(states, offers, rng)

    def offer_from(self, tree: Any, where: str = "migrants") -> Individuals:
        """As in `Islands`.

        Raises:
          ValueError: what is not an offer to this search, naming the place.
        """
        offer = decode(self.individuals_type, tree, where, like=self.space)
        if not offer.evaluated:
            raise ValueError(f"{where} has no fitness")
        return offer


def first_programs(space: SearchSpace, initial: str | Programs) -> Programs | None:
    """The programs that the first population is made of; None where it is random."""
    if isinstance(initial, Programs):
        if not len(initial):
            raise ValueError("the initial programs must be at least one")
        return _filled(initial, space)
    if initial == "random":
        return None
    if initial == "no_op":
        return _filled(Programs.from_lists([[[], [], []]], space.memory), space)
    if initial in ("linear", "network"):
        return _filled(library.program(initial), space)
    if isinstance(initial, str):
        return _filled(library.load(initial, space.memory), space)
    raise ValueError(f"initial must be random, no_op, linear, network, a file or programs, not {shown(initial)}")


def _filled(programs: Programs, space: SearchSpace) -> Programs:
    """Programs with NO_OP behind each component up to the initial sizes, as upstream starts from one."""
    sizes = space.initial_size
    padded = [
        [part + [[0]] * (size - len(part)) for part, size in zip(components, sizes, strict=True)]
        for components in programs.to_lists()
    ]
    try:
        return Programs.from_lists(padded, space.memory, space.capacity)
    except ValueError as error:
        raise ValueError(f"the initial program does not fit the space: {error}") from None
