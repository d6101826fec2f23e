"""The contract of a search: a `Searcher` proposes candidates and gets scores; a `State` is what it continues from.

Axes: `I` islands, `P` programs per island, `n` candidates.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple, Protocol, TypeVar, cast, runtime_checkable

import numpy as np

from zero_jax.evaluation.base import Candidates, Scores, Stage
from zero_jax.program.memory import Interface
from zero_jax.program.programs import Programs
from zero_jax.program.space import SearchSpace
from zero_jax.search.checks import check_layout, check_ops
from zero_jax.search.operators import lineage
from zero_jax.search.operators.lineage import AnyAncestor, Lines
from zero_jax.support import files
from zero_jax.support.checked import shown
from zero_jax.support.codec import Count, Length, Part, Range, decode, encode
from zero_jax.tasks import Tasks

SCHEMA = 8
"""The version of saved states."""

S = TypeVar("S", bound="State")


class Rng(NamedTuple):
    """The state of NumPy's PCG64 generator."""

    state: Annotated[int, Range(0, 2**128 - 1)]
    inc: Annotated[int, Range(0, 2**128 - 1)]
    has_uint32: Annotated[int, Range(0, 1)]
    uinteger: Annotated[int, Range(0, 2**32 - 1)]

    @classmethod
    def of(cls, rng: np.random.Generator) -> "Rng":
        """That of a generator."""
        bits: Any = rng.bit_generator.state
        return cls(bits["state"]["state"], bits["state"]["inc"], bits["has_uint32"], bits["uinteger"])

    def generator(self) -> np.random.Generator:
        """A generator that continues from it."""
        bits = np.random.PCG64(0)
        state = {"state": self.state, "inc": self.inc}
        rest = {"bit_generator": "PCG64", "has_uint32": self.has_uint32, "uinteger": self.uinteger}
        bits.state = cast(Any, rest | {"state": state})
        return np.random.Generator(bits)

    def validate(self) -> None:
        """Refuses what no PCG64 has."""
        if self.inc % 2 == 0:
            raise ValueError("it is not the state of a PCG64: inc is even")


class Best(NamedTuple):
    """The best program so far.

    Attributes:
      program: a batch of this one.
      fitness: its combined fitness.
      evaluations: how many programs had been evaluated by then, its cohort included.
      ancestor: the line of descent that ends in it, for a search with lineage.
    """

    program: Annotated[Programs, Length(1)]
    fitness: float
    evaluations: Count
    ancestor: AnyAncestor = None


@dataclasses.dataclass(frozen=True, eq=False)
class State:
    """Everything that a search continues from; never changed in place. Searchers add fields of their own.

    Attributes:
      evaluations: how many programs have been evaluated.
      best: the best of them; None before the first.
      rng: of the generator.
    """

    evaluations: Count
    best: Best | None
    rng: Rng

    @property
    def best_fitness(self) -> float:
        """Of the best; -inf before the first evaluation."""
        return self.best.fitness if self.best else -np.inf

    @property
    def best_value(self) -> float:
        """What a program must exceed to become the best: its fitness, unless the search maximises something else."""
        return self.best_fitness

    def generator(self) -> np.random.Generator:
        """A generator that continues from `rng`."""
        return self.rng.generator()

    def validate(self) -> None:
        """Refuses what contradicts itself, in a state from a file."""
        if (self.best is None) != (self.evaluations == 0):
            raise ValueError("it has a best program before the first evaluation, or none after it")

    def __reduce__(self) -> tuple[Any, ...]:
        """As a tree: see `Ancestor`."""
        return decode, (type(self), encode(self))


class _File(NamedTuple):
    """A saved state."""

    schema: int
    state: Part


@dataclasses.dataclass(frozen=True)
class Searcher:
    """What every search is: frozen settings, and functions from state to state.

    A subclass is a frozen dataclass whose fields, with defaults, are its settings; it sets `state_type` and has `init`,
    `ask` and `tell`. `@register("name")` gives it the command line, checkpoints, Ray, records and the report.

    Attributes:
      space: The program space.
      interface: where label, features and prediction are; None for scalar labels. A run fills it in.
    """

    space: SearchSpace
    interface: Interface | None = dataclasses.field(default=None, kw_only=True)

    state_type: ClassVar[type[State]] = State
    only_fitness: ClassVar[bool] = True
    """Whether it asks for the fitness of programs on all of the work, and for nothing else."""

    @classmethod
    def adapted(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Settings taken over from a search of another kind, as this one needs them."""
        return settings

    def init(self, seed: int | np.random.SeedSequence) -> Any:
        """The state before the first evaluation."""
        raise NotImplementedError

    def ask(self, state: Any) -> tuple[Any, Candidates]:
        """The state, its generator advanced, and what to evaluate next; the state given is unchanged."""
        raise NotImplementedError

    def tell(self, state: Any, candidates: Candidates, scores: Scores) -> Any:
        """The state after the candidates of the last `ask` have been evaluated.

        Raises:
          ValueError: scores that do not fit the candidates.
        """
        raise NotImplementedError

    def best(self, state: Any) -> Best | None:
        """The best program so far; None before the first evaluation."""
        return state.best

    def check_work(self, tasks: Tasks, stages: Sequence[Stage]) -> None:
        """Refuses tasks, or stages of their evaluator, with which this search cannot work.

        Raises:
          ValueError: saying what would work.
        """

    def exhausted(self, state: Any) -> bool:
        """Whether the search finds nothing new to ask for, or has stalled: another trial has better prospects."""
        return False

    @property
    def ops(self) -> tuple[tuple[int, ...], ...]:
        """The ops that programs of each component can hold: those of the space."""
        return self.space.ops

    def check(self, state: Any) -> None:
        """Refuses a state from a file that this search could not have left.

        Raises:
          ValueError: saying what differs.
        """
        self.check_kind(state)
        for programs in (getattr(state, "programs", None), state.best and state.best.program):
            if programs is not None:
                check_layout(programs, self.space)
                check_ops(programs, self.ops)

    def check_kind(self, state: Any) -> None:
        """Refuses the state of another kind of search.

        Raises:
          ValueError: if so.
        """
        if type(state) is not self.state_type:
            kind, expected = type(state).__name__, self.state_type.__name__
            raise ValueError(f"the state is of another search: it is of type {kind}, not {expected}")

    def candidates(self, programs: Programs) -> Candidates:
        """Programs with their canonical forms, which are computed here, once."""
        return Candidates.of(programs, self.interface)

    def restored(self, tree: Any, where: str = "state") -> Any:
        """A state from what `codec.encode` returned of it, checked.

        Raises:
          ValueError: what is not a state of this search, naming the place.
        """
        state = decode(self.state_type, tree, where, like=self.space)
        try:
            self.check(state)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        return state

    def save(self, state: Any, path: str | Path) -> None:
        """Writes a state as NPZ, atomically."""
        files.write_atomically(Path(path), files.packed(encode(_File(SCHEMA, Part(encode(state))))))

    def load(self, path: str | Path) -> Any:
        """The inverse of `save`.

        Raises:
          ValueError: a file that is damaged, not a saved state of this search, or of another schema.
        """
        data = Path(path).read_bytes()
        try:
            stored = files.unpacked(data)
            if isinstance(stored, dict) and stored.get("schema", SCHEMA) != SCHEMA:
                raise ValueError(f"its schema is {shown(stored['schema'])}; this version reads {SCHEMA}")
            return self.restored(decode(_File, stored).state.tree)
        except ValueError as error:
            raise ValueError(f"{path} is not a saved search: {error}") from error


# ---------------------------------------------------------------------------------------------- what only some can do


@runtime_checkable
class Islands(Protocol):
    """A searcher whose islands can be divided among workers, and exchange individuals."""

    islands: int

    def part(self, n: int) -> Any:
        """The searcher of one of `n` equal parts of the islands."""

    def migrate(self, states: Sequence[Any], rng: np.random.Generator) -> list[Any]:
        """The states after all islands have exchanged individuals."""

    def offered(self, states: Sequence[Any], rng: np.random.Generator) -> Any:
        """What islands offer to islands elsewhere, as `codec.encode` takes it."""

    def taken(self, states: Sequence[Any], offers: Sequence[Any], rng: np.random.Generator) -> list[Any]:
        """The states after the islands have taken some of these offers."""

    def offer_from(self, tree: Any, where: str) -> Any:
        """An offer from what `codec.encode` returned of it."""


@runtime_checkable
class HasPopulation(Protocol):
    """A state with a population, for records: `programs`; `fitness` `[I, P]`; `hashes` `[I * P]` of canonical forms."""

    @property
    def programs(self) -> Programs: ...  # noqa: D102

    @property
    def fitness(self) -> np.ndarray: ...  # noqa: D102

    @property
    def hashes(self) -> np.ndarray: ...  # noqa: D102


@runtime_checkable
class HasNiches(Protocol):
    """A searcher that keeps programs of several kinds, of which the best so far may not generalise best."""

    def best_of_niches(self, state: Any) -> list[Best]:
        """The best of each, those that were evaluated on all tasks and examples."""


@runtime_checkable
class HasLineage(Protocol):
    """A state that knows what candidates descend from."""

    def origins(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """The fittest ancestor of some rows of the candidates asked for last, and how many generations ago it was; None
        for a first population.
        """


# ---------------------------------------------------------------------------------------------- the registry

SEARCHERS: dict[str, type[Searcher]] = {}
"""All searchers by name."""

K = TypeVar("K", bound=type[Searcher])


def register(name: str) -> Callable[[K], K]:
    """Makes a searcher known by a name.

    Raises:
      ValueError: a name that another searcher has.
    """

    def registered(kind: K) -> K:
        before = SEARCHERS.get(name, kind)
        if (before.__module__, before.__qualname__) != (kind.__module__, kind.__qualname__):
            raise ValueError(f"searcher {name!r} exists already: {before.__module__}.{before.__qualname__}")
        SEARCHERS[name] = kind
        return kind

    return registered


# ---------------------------------------------------------------------------------------------- helpers for searchers


def with_scores(
    state: S,
    candidates: Candidates,
    fitness: np.ndarray,
    lines: Lines | None = None,
    values: np.ndarray | None = None,
    /,
    **changes: Any,
) -> S:
    """The state after the evaluation of candidates: counts them and keeps the best.

    Args:
      state: before it.
      candidates: `n` candidates.
      fitness: `[n]` float64, from `combined`.
      lines: of the candidates, for a search with lineage.
      values: `[n]` float64, what the best has most of; None for the fitness.
      **changes: other fields of the state.
    """
    values = fitness if values is None else values
    winner, evaluations = int(np.argmax(values)), state.evaluations + len(candidates)
    if values[winner] > state.best_value:
        program, score = candidates.programs[winner], float(fitness[winner])
        line = lineage.ending_in(lines, winner, program, score, evaluations) if lines else None
        changes["best"] = Best(program, score, evaluations, line)
    return dataclasses.replace(state, evaluations=evaluations, **changes)


def combined(candidates: Candidates, scores: Scores) -> np.ndarray:
    """`[n]` float64, the combined fitness of candidates, checked.

    Raises:
      TypeError: something other than `Scores`.
      ValueError: a fitness that is NaN or infinite, or another number of them.
    """
    if not isinstance(scores, Scores):
        raise TypeError(f"tell takes candidates and their Scores, as Scores.of(fitness) returns; not {shown(scores)}")
    fitness = np.asarray(scores.combined, np.float64)
    if fitness.shape != (len(candidates),):
        shape = f"an array of shape {fitness.shape}"
        raise ValueError(f"fitness must be {len(candidates)} numbers, one for each candidate, not {shape}")
    wrong = np.flatnonzero(~np.isfinite(fitness))
    if len(wrong):
        raise ValueError(
            f"fitness must be {len(candidates)} finite numbers, but that of candidate {wrong[0]} is {fitness[wrong[0]]}"
        )
    return fitness
