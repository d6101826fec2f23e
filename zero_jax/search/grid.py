"""Exhaustive search: every program of a space, the shortest first, each canonical form once.

Axes: `n` programs, `L` slots of a program.
"""

import dataclasses
import functools
import itertools
import math
from typing import Annotated, ClassVar

import numpy as np

from zero_jax.evaluation.base import Candidates, Scores
from zero_jax.program import ops
from zero_jax.program.memory import COMPONENTS
from zero_jax.program.programs import Programs, concatenate
from zero_jax.search.base import Rng, Searcher, State, combined, register, with_scores
from zero_jax.search.checks import check_population
from zero_jax.support.bounds import check_bytes, check_number
from zero_jax.support.codec import Array, Count

KNOWN = 2**20
"""How many of the programs that it asked for a search remembers: the first. Later ones may come again."""

LISTED, ROUNDS = 8192, 100
"""How many programs are listed at a time, and how often for one cohort: then it may be smaller, or repeat the last."""


@dataclasses.dataclass(frozen=True, eq=False)
class GridState(State):
    """The state of `GridSearch`.

    Attributes:
      sizes: which of the sizes of programs, in order of their sum, is being listed.
      position: how many programs of that size have been.
      known: uint64, sorted hashes of programs asked for.
    """

    sizes: Count
    position: Count
    known: Annotated[np.ndarray, Array(np.uint64, (None,))]


@register("grid")
@dataclasses.dataclass(frozen=True)
class GridSearch(Searcher):
    """Lists all programs of a space, in order of their number of instructions, and evaluates each canonical form once.

    Random numbers play no part: equal spaces are gone through in equal order. A space with more than some million
    programs is not finished in practice; then this tells how good the shortest are.

    Attributes:
      cohort: Number of programs evaluated together.
      constants: What constants of instructions may be; those that have to be positive take the positive ones.

    Raises:
      ValueError: a Setup of initial values, no constant that an op may have, or a cohort beyond memory.

    Example:
      >>> from zero_jax import Component, SearchSpace
      >>> setup, predict = Component(["SCALAR_CONST_SET"], (1, 1, 1)), Component(["VECTOR_INNER_PRODUCT"], (1, 1, 1))
      >>> learn = Component(["SCALAR_VECTOR_PRODUCT", "VECTOR_SUM"], (0, 1, 2))
      >>> search = GridSearch(SearchSpace((3, 3, 0), setup, predict, learn), cohort=4, constants=(0.1,))
      >>> state, candidates = search.ask(search.init(seed=0))
      >>> len(candidates), len(set(candidates.hashes.tolist()))
      (4, 4)
    """

    cohort: int = 1000
    constants: tuple[float, ...] = (0.1, 1.0)

    state_type: ClassVar[type[State]] = GridState

    def __post_init__(self) -> None:
        check_number("cohort", self.cohort)
        check_population(self.space, 1, max(self.cohort, LISTED))
        if self.space.genes:
            raise ValueError("grid search lists instructions: give Setup ops, and leave out the space's initial_values")
        if not self.constants or not all(map(math.isfinite, self.constants)):
            raise ValueError(f"constants must be at least one finite number, not {self.constants}")
        for name, choices in zip(COMPONENTS, self._choices, strict=True):
            check_bytes(f"{len(choices):,} instructions that {name} may have", choices.nbytes, "take fewer constants")

    @functools.cached_property
    def _choices(self) -> tuple[np.ndarray, ...]:
        """For each component `[choices, 7]`: code and constants of every instruction that it may have."""
        return tuple(np.array(self._instructions(numbers)).reshape(-1, 7) for numbers in self.space.ops)

    def _instructions(self, numbers: tuple[int, ...]) -> list[tuple[float, ...]]:
        rows = []
        for number in numbers:
            op = ops.OPS[number]
            inputs = [range(self.space.memory[ops.KINDS.index(kind)]) for kind in op.inputs]
            inputs += [range(1)] * (2 - len(inputs))
            n = self.space.memory[ops.KINDS.index(op.output)] if op.output else 1
            outputs = range(1 if op.output in ("s", "v") and n > 1 else 0, n)  # label and features are not written
            constants = [self._values(number, i) for i in range(3)]
            rows += [(number, *row) for row in itertools.product(*inputs, outputs, *constants)]
        return rows

    def _values(self, op: int, field: int) -> tuple[float, ...]:
        meaning = ops.CONSTANT_MEANINGS[op, field]
        if not meaning:
            return (0.0,)
        values = tuple(value for value in self.constants if value >= 0 or meaning not in ("index", "stdev"))
        if not values:
            raise ValueError(f"constants {self.constants} has no positive one, which {ops.OPS[op].name} needs")
        return values

    @functools.cached_property
    def _sizes(self) -> list[tuple[int, ...]]:
        """The sizes of the three components, in order of their sum."""
        bounds = zip(self.space.min_size, self.space.max_size, strict=True)
        some = itertools.product(*(range(least, most + 1) for least, most in bounds))
        return sorted(some, key=lambda sizes: (sum(sizes), sizes))

    def _number(self, sizes: tuple[int, ...]) -> int:
        """How many programs have these sizes."""
        return math.prod(len(choices) ** size for choices, size in zip(self._choices, sizes, strict=True))

    def _listed(self, sizes: tuple[int, ...], first: int, n: int) -> Programs:
        """`n` programs of these sizes from number `first` on; the last slot changes fastest."""
        starts, slots = np.cumsum([0, *self.space.capacity]), sum(self.space.capacity)
        whole = np.zeros((n, slots, 7))
        left = np.arange(n).astype(object) + first  # may be beyond 64 bits
        for component in (2, 1, 0):
            choices = self._choices[component]
            for slot in reversed(range(sizes[component])):
                whole[:, starts[component] + slot] = choices[(left % len(choices)).astype(np.int64)]
                left = left // len(choices)
        code, data = whole[..., :4].astype(np.int32), whole[..., 4:].astype(np.float32)
        length = np.tile(np.array(sizes, np.int32), (n, 1))
        return Programs(code, data, length, self.space.capacity, self.space.memory)

    # ------------------------------------------------------------------------------------------ the contract

    def init(self, seed: int | np.random.SeedSequence) -> GridState:
        """The state before the first program; the seed does not count."""
        rng = Rng.of(np.random.default_rng(seed))
        return GridState(0, None, rng, 0, 0, np.zeros(0, np.uint64))

    def exhausted(self, state: GridState) -> bool:
        """Whether all programs have been asked for."""
        return state.sizes >= len(self._sizes)

    def ask(self, state: GridState) -> tuple[GridState, Candidates]:
        """The next programs whose canonical forms have not been asked for: `cohort`, unless there are no more.

        If the next `LISTED` * `ROUNDS` programs have none, the last of them is asked for again.
        """
        self.check_kind(state)
        known, at, position = state.known, state.sizes, state.position
        found, wanted = [], self.cohort
        for _ in range(ROUNDS):
            if at == len(self._sizes):
                break
            n = min(LISTED, self._number(self._sizes[at]) - position)
            listed = self._listed(self._sizes[at], position, n)
            hashes = self.candidates(listed).hashes
            first = np.sort(np.unique(hashes, return_index=True)[1])
            new = first[~np.isin(hashes[first], known)][:wanted]
            known = np.sort(np.concatenate([known, hashes[new][: KNOWN - len(known)]]))
            found.append(listed[new])
            wanted -= len(new)
            position += n if wanted else int(new[-1]) + 1
            if position == self._number(self._sizes[at]):
                at, position = at + 1, 0
            if not wanted:
                break
        programs = concatenate(found) if found else self._listed(self._sizes[0], 0, 0)
        if not len(programs):
            programs = listed[-1:] if found else self._listed(self._sizes[0], 0, 1)
        return dataclasses.replace(state, sizes=at, position=position, known=known), self.candidates(programs)

    def tell(self, state: GridState, candidates: Candidates, scores: Scores) -> GridState:
        """The state after the evaluation of a cohort."""
        return with_scores(state, candidates, combined(candidates, scores))

    def check(self, state: GridState) -> None:
        """As in `Searcher`."""
        super().check(state)
        ended = state.sizes == len(self._sizes)
        if (np.diff(state.known) <= 0).any() or len(state.known) > KNOWN:
            raise ValueError("the state is of another search: what it knows is not in order")
        if state.sizes > len(self._sizes) or state.position >= (1 if ended else self._number(self._sizes[state.sizes])):
            raise ValueError("the state is of another search: it is behind the last program")
