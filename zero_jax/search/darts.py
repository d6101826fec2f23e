"""A gradient through relaxed programs: differentiable architecture search (Liu, Simonyan and Yang 2019).

Axes: `n` relaxed programs.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from zero_jax.evaluation.base import Candidates, Scores, Stage
from zero_jax.search.base import Rng, Searcher, State, combined, register, with_scores
from zero_jax.search.operators.mixture import Mixture, Slots
from zero_jax.support.bounds import check_number
from zero_jax.support.codec import Count, Part
from zero_jax.tasks import Tasks


@dataclasses.dataclass(frozen=True, eq=False)
class RelaxedState(State):
    """The state of `Darts`.

    Attributes:
      learned: the relaxed programs and what the optimizer knows, a list of arrays.
      turn: how many updates there have been.
    """

    learned: Part
    turn: Count


class _Functions(NamedTuple):
    mixture: Mixture
    template: Any  # relaxed programs and the optimizer's state, of which a state keeps the arrays
    gradient: Any
    update: Any


@dataclasses.dataclass(frozen=True, eq=False)
class RelaxedPrograms:
    """`n` relaxed programs, as an evaluator takes them.

    Attributes:
      search: whose they are.
      slots: their logits and constants, leaves `[n, ...]`.
      temperature: of their softmax.
    """

    search: "Darts"
    slots: Slots
    temperature: float

    def gradient(self, tasks: Tasks, seed: int) -> tuple[Slots, int]:
        """As in `Relaxed`. A step of a mixture counts once, though it computes every op."""
        self.search.check_work(tasks, ())
        bits, temperature = np.uint32(seed & 0xFFFFFFFF), jnp.float32(self.temperature)
        gradient = self.search.functions.gradient(self.slots, temperature, tasks, bits)
        examples = min(self.search.train_examples, tasks.train_x.shape[1])
        return jax.tree.map(np.asarray, gradient), len(self.slots.op) * len(tasks) * examples


@register("darts")
@dataclasses.dataclass(frozen=True)
class Darts(Searcher):
    """Gradient ascent on relaxed programs, each slot a softmax mixture of ops and operands.

    The outer steps of the paper's two levels are Adam's, on logits and constants; the inner one is the program's own
    Learn, on the first training examples, and the gradient goes through all of its steps, where the paper cuts it off
    after one. After each outer step the likeliest op and operands of each slot make a program that is judged like any
    other; only these count. After `updates` outer steps the search is exhausted, and a run begins another trial.

    It fails where the literature says it does, and for the same reasons: a mixture that does well may have no part
    that does; slots collapse to no-ops, which disturb nobody; and memory and time grow with ops x slots x examples.
    `experiments/searchers.py` shows how often.

    Attributes:
      cohort: Number of relaxed programs, each from other logits.
      updates: Outer steps.
      learning_rate: Of Adam.
      train_examples: Training examples of each task that a gradient goes through.
      valid_examples: Validation examples of each task that it is taken of.
      temperature: Of the softmax at first; it falls geometrically to
      final_temperature: that of the last step.
      spread: Standard deviation of the first logits.

    Raises:
      ValueError: a Setup of initial values; numbers out of range.
    """

    cohort: int = 8
    updates: int = 300
    learning_rate: float = 0.05
    train_examples: int = 30
    valid_examples: int = 30
    temperature: float = 1.0
    final_temperature: float = 0.2
    spread: float = 0.5

    only_fitness: ClassVar[bool] = False
    state_type: ClassVar[type[State]] = RelaxedState

    def __post_init__(self) -> None:
        for name in ("cohort", "updates"):
            check_number(name, getattr(self, name))
        if self.space.genes:
            raise ValueError("darts relaxes instructions: give Setup ops, and leave out the space's initial_values")
        for name in ("train_examples", "valid_examples"):
            if not 1 <= getattr(self, name) <= 100_000:
                raise ValueError(f"{name} must be from 1 to 100,000, not {getattr(self, name)}")
        for name in ("learning_rate", "temperature", "final_temperature", "spread"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")

    @functools.cached_property
    def functions(self) -> _Functions:
        """What is compiled, once for equal settings."""
        return _functions(dataclasses.replace(self, interface=None))

    def temperature_at(self, turn: int) -> float:
        """The temperature of an outer step."""
        share = min(1.0, turn / max(1, self.updates - 1))
        return float(self.temperature ** (1 - share) * self.final_temperature**share)

    def slots(self, state: RelaxedState) -> Slots:
        """The relaxed programs of a state."""
        slots: Slots = self._restored(state)[0]
        return slots

    def _restored(self, state: RelaxedState) -> Any:
        leaves, structure = jax.tree.flatten(self.functions.template)
        kept = state.learned.tree
        if not isinstance(kept, list) or [np.shape(one) for one in kept] != [leaf.shape for leaf in leaves]:
            raise ValueError("the state is of another search: its relaxed programs have other sizes")
        return jax.tree.unflatten(
            structure, [np.asarray(one, leaf.dtype) for one, leaf in zip(kept, leaves, strict=True)]
        )

    # ------------------------------------------------------------------------------------------ the contract

    def init(self, seed: int | np.random.SeedSequence) -> RelaxedState:
        """The state before the first evaluation."""
        rng = np.random.default_rng(seed)
        keys = jax.random.split(jax.random.key(int(rng.integers(2**32))), self.cohort)
        slots = jax.vmap(lambda key: self.functions.mixture.slots(key, self.spread))(keys)
        return RelaxedState(0, None, Rng.of(rng), _stored((slots, optax.adam(self.learning_rate).init(slots))), 0)

    def ask(self, state: RelaxedState) -> tuple[RelaxedState, Candidates]:
        """The likeliest program of each mixture, and the mixtures, of which a gradient is wanted."""
        self.check_kind(state)
        slots = self.slots(state)
        relaxed = RelaxedPrograms(self, slots, self.temperature_at(state.turn))
        candidates = self.candidates(self.functions.mixture.programs(slots))
        return state, dataclasses.replace(candidates, relaxed=relaxed)

    def tell(self, state: RelaxedState, candidates: Candidates, scores: Scores) -> RelaxedState:
        """The state after an outer step."""
        fitness = combined(candidates, scores)
        if scores.gradient is None:
            raise ValueError("darts needs the gradient of its mixtures: evaluate its candidates with an Evaluator")
        learned = self.functions.update(self._restored(state), scores.gradient)
        return with_scores(state, candidates, fitness, learned=_stored(learned), turn=state.turn + 1)

    def exhausted(self, state: RelaxedState) -> bool:
        """Whether all outer steps are done."""
        return state.turn >= self.updates

    def check_work(self, tasks: Tasks, stages: Sequence[Stage]) -> None:
        """As in `Searcher`."""
        if tasks.loss != "rmse" or tasks.vector_labels:
            raise ValueError(
                f"darts follows the gradient of fitness, and the {tasks.loss} loss has none: take regression tasks, or "
                "another method, such as efficient"
            )

    def check(self, state: RelaxedState) -> None:
        """As in `Searcher`."""
        super().check(state)
        self._restored(state)


def _stored(learned: Any) -> Part:
    return Part([np.asarray(leaf) for leaf in jax.tree.leaves(learned)])


@functools.lru_cache(maxsize=16)
def _functions(search: Darts) -> _Functions:
    mixture = Mixture(search.space, search.train_examples, search.valid_examples)
    optimizer = optax.adam(search.learning_rate)
    one = jax.eval_shape(lambda key: mixture.slots(key, 1.0), jax.random.key(0))
    slots = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((search.cohort, *leaf.shape), leaf.dtype), one)
    template = slots, jax.eval_shape(optimizer.init, slots)

    def gradient(slots: Slots, temperature: Array, tasks: Tasks, seed: Array) -> Any:
        each = jax.vmap(jax.grad(mixture.fitness), in_axes=(0, None, None, None))(slots, temperature, tasks, seed)
        return jax.tree.map(lambda leaf: jnp.nan_to_num(leaf, nan=0.0, posinf=0.0, neginf=0.0), each)

    def update(learned: Any, gradient: Any) -> Any:
        slots, known = learned
        with jax.numpy_dtype_promotion("standard"):  # Adam raises floats to the power of a count
            steps, known = optimizer.update(jax.tree.map(lambda leaf: -leaf, gradient), known, slots)
        return optax.apply_updates(slots, steps), known

    return _Functions(mixture, template, jax.jit(gradient), jax.jit(update))
