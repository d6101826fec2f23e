"""A recurrent controller that learns to write good programs, by policy gradients (Zoph and Le 2017).

Axes: `n` programs of a cohort, `L` slots.
"""

import dataclasses
import functools
from typing import Annotated, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax

from zero_jax.evaluation.base import Candidates, Scores
from zero_jax.search.base import Rng, Searcher, State, combined, register, with_scores
from zero_jax.search.operators.controller import TOKENS, Controller
from zero_jax.support.bounds import check_number
from zero_jax.support.codec import Array as ArrayLike
from zero_jax.support.codec import Part


@dataclasses.dataclass(frozen=True, eq=False)
class ControllerState(State):
    """The state of `Reinforce`.

    Attributes:
      learned: the weights of the controller and what its optimizer knows, a list of arrays.
      baseline: the moving mean of fitness; None before the first cohort.
      tokens: int32 `[n, L, 7]`, of the programs asked for last.
    """

    learned: Part
    baseline: float | None
    tokens: Annotated[np.ndarray, ArrayLike(np.int32, ("n", None, TOKENS), least=0)]


class _Functions(NamedTuple):
    controller: Controller
    template: Any  # weights and the optimizer's state, of which a state keeps the arrays
    write: Any
    update: Any


@register("reinforce")
@dataclasses.dataclass(frozen=True)
class Reinforce(Searcher):
    """An LSTM writes programs token by token, and learns by REINFORCE from their fitness.

    The gradient is that of (fitness - baseline) x log-probability, with a moving mean as the baseline and a bonus for
    entropy. With `updates` above 1 each cohort is gone through several times by PPO (Schulman et al. 2017), its ratios
    clipped. With `quantile` the search is risk-seeking (Petersen et al. 2021): only the best programs of a cohort are
    learned from, and the baseline is the worst of these.

    Attributes:
      cohort: Number of programs written and evaluated together.
      hidden: Number of units of the LSTM.
      learning_rate: Of Adam.
      entropy_bonus: How much a nat of entropy, of a whole program, is worth beside fitness.
      baseline_decay: Of the moving mean.
      updates: How often each cohort is learned from: 1 is REINFORCE, more is PPO.
      clip: How far a ratio of probabilities may be from 1, in PPO.
      quantile: Share of a cohort, the best of it, that is learned from; 1 for all.
      constants: What constants of instructions may be.

    Raises:
      ValueError: Equinox is not installed; a Setup of initial values; numbers out of range.
    """

    cohort: int = 100
    hidden: int = 64
    learning_rate: float = 3e-3
    entropy_bonus: float = 1e-3
    baseline_decay: float = 0.9
    updates: int = 1
    clip: float = 0.2
    quantile: float = 1.0
    constants: tuple[float, ...] = (0.1, -1.0, -0.1, 0.0, 0.001, 0.01, 0.5, 1.0)

    state_type: ClassVar[type[State]] = ControllerState

    def __post_init__(self) -> None:
        for name in ("cohort", "hidden", "updates"):
            check_number(name, getattr(self, name))
        if self.space.genes:
            raise ValueError("reinforce writes instructions: give Setup ops, and leave out the space's initial_values")
        if not self.learning_rate > 0 or self.entropy_bonus < 0 or not self.clip > 0:
            raise ValueError("learning_rate and clip are above 0, and entropy_bonus is at least 0")
        if not 0 <= self.baseline_decay < 1 or not 0 < self.quantile <= 1:
            raise ValueError("baseline_decay is from 0 to below 1, and quantile above 0 and at most 1")
        Controller(self.space, self.constants, self.hidden)

    # ------------------------------------------------------------------------------------------ the network

    @functools.cached_property
    def _functions(self) -> _Functions:
        return _functions(dataclasses.replace(self, interface=None))

    def loss(self, weights: Any, tokens: Array, advantage: Array, before: Array) -> Array:
        """What an update makes smaller; `before` are the log-probabilities with which programs were written."""
        judged = self._functions.controller.judged(weights, tokens)
        ratio = jnp.exp(judged.log_probability - before)
        gain = jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - self.clip, 1 + self.clip) * advantage)
        return -(gain + self.entropy_bonus * judged.entropy).mean()

    def advantage(self, fitness: np.ndarray, baseline: float | None) -> np.ndarray:
        """`[n]` by how much programs are better than expected; 0 for those that are not learned from."""
        if self.quantile == 1:
            return fitness - (fitness.mean() if baseline is None else baseline)
        least = np.quantile(fitness, 1 - self.quantile)
        return np.where(fitness >= least, fitness - least, 0.0) / self.quantile

    def probability(self, state: ControllerState, tokens: np.ndarray) -> np.ndarray:
        """`[n]` with which probability the controller of a state writes some tokens `[n, L, 7]`."""
        weights = self._restored(state)[0]
        return np.exp(np.asarray(self._functions.controller.judged(weights, jnp.asarray(tokens)).log_probability))

    def _restored(self, state: ControllerState) -> Any:
        leaves, structure = jax.tree.flatten(self._functions.template)
        stored = state.learned.tree
        if not isinstance(stored, list) or [np.shape(one) for one in stored] != [leaf.shape for leaf in leaves]:
            raise ValueError("the state is of another search: its controller has other sizes")
        arrays = [jnp.asarray(one, leaf.dtype) for one, leaf in zip(stored, leaves, strict=True)]
        return jax.tree.unflatten(structure, arrays)

    # ------------------------------------------------------------------------------------------ the contract

    def init(self, seed: int | np.random.SeedSequence) -> ControllerState:
        """The state before the first evaluation."""
        rng = np.random.default_rng(seed)
        weights = self._functions.controller.weights(jax.random.key(int(rng.integers(2**32))))
        learned = weights, _adam(self.learning_rate).init(weights)
        nothing = np.zeros((1, sum(self.space.capacity), TOKENS), np.int32)
        return ControllerState(0, None, Rng.of(rng), stored(learned), None, nothing)

    def ask(self, state: ControllerState) -> tuple[ControllerState, Candidates]:
        """The state, its generator advanced, and what the controller writes."""
        self.check_kind(state)
        rng = state.generator()
        key = jax.random.key(int(rng.integers(2**32)))
        tokens = np.asarray(self._functions.write(self._restored(state)[0], key))
        candidates = self.candidates(self._functions.controller.programs(tokens))
        return dataclasses.replace(state, rng=Rng.of(rng), tokens=tokens), candidates

    def tell(self, state: ControllerState, candidates: Candidates, scores: Scores) -> ControllerState:
        """The state after the controller has learned from a cohort."""
        fitness = combined(candidates, scores)
        if len(fitness) != len(state.tokens):
            raise ValueError(f"{len(state.tokens)} candidates were asked for, not {len(fitness)}")
        learned, baseline = self.lesson(state, fitness)
        return with_scores(state, candidates, fitness, learned=stored(learned), baseline=baseline)

    def lesson(self, state: ControllerState, fitness: np.ndarray) -> tuple[Any, float]:
        """What the controller has learned after a cohort, and the new baseline."""
        advantage = jnp.asarray(self.advantage(fitness, state.baseline), jnp.float32)
        learned = self._functions.update(self._restored(state), jnp.asarray(state.tokens), advantage)
        mean, decay = float(fitness.mean()), self.baseline_decay
        return learned, mean if state.baseline is None else decay * state.baseline + (1 - decay) * mean

    def check(self, state: ControllerState) -> None:
        """As in `Searcher`."""
        super().check(state)
        self._restored(state)
        if state.tokens.shape[1] != sum(self.space.capacity):
            raise ValueError("the state is of another search: its programs have other sizes")


def _adam(learning_rate: float) -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(learning_rate))


def stored(learned: Any) -> Part:
    """Weights and what their optimizer knows, as a state keeps them."""
    return Part([np.asarray(leaf) for leaf in jax.tree.leaves(learned)])


@functools.lru_cache(maxsize=16)
def _functions(search: Reinforce) -> _Functions:
    """The functions of a search, compiled once."""
    controller = Controller(search.space, search.constants, search.hidden)
    optimizer = _adam(search.learning_rate)
    weights = jax.eval_shape(controller.weights, jax.random.key(0))
    template = weights, jax.eval_shape(optimizer.init, weights)

    def update(learned: Any, tokens: Array, advantage: Array) -> Any:
        before = controller.judged(learned[0], tokens).log_probability

        def once(_: int, learned: Any) -> Any:
            weights, known = learned
            gradient = jax.grad(search.loss)(weights, tokens, advantage, before)
            with jax.numpy_dtype_promotion("standard"):  # Adam raises floats to the power of a count
                steps, known = optimizer.update(gradient, known, weights)
            return optax.apply_updates(weights, steps), known

        return lax.fori_loop(0, search.updates, once, learned)

    def write(weights: Any, key: Array) -> Array:
        return controller.written(weights, key, search.cohort).tokens

    return _Functions(controller, template, jax.jit(write), jax.jit(update))
