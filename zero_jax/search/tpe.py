"""Model-based search: Optuna proposes what stands in every slot (TPE, Bergstra et al. 2011; Akiba et al. 2019).

Axes: `H` programs remembered, `n` candidates.
"""

import contextlib
import dataclasses
import warnings
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

import numpy as np

from zero_jax.evaluation.base import Candidates, Scores
from zero_jax.program import ops
from zero_jax.program.memory import COMPONENTS
from zero_jax.program.programs import Programs, concatenate
from zero_jax.program.space import SearchSpace
from zero_jax.search.base import Rng, Searcher, State, combined, register, with_scores
from zero_jax.search.checks import check_layout
from zero_jax.support.bounds import check_number
from zero_jax.support.codec import Array, Length

LARGEST = 1.0
"""Constants are proposed from -LARGEST to LARGEST, those that have to be positive from 0."""


@dataclasses.dataclass(frozen=True, eq=False)
class ModelState(State):
    """The state of `ModelSearch`.

    Attributes:
      programs: what the model knows, in the order in which it was evaluated; one empty program before the first.
      known_fitness: float64 `[H]`, NaN before the first.
    """

    programs: Annotated[Programs, Length("H")]
    known_fitness: Annotated[np.ndarray, Array(np.float64, ("H",), finite=False)]

    def validate(self) -> None:
        """As in `State`."""
        super().validate()
        finite = np.isfinite(self.known_fitness) if self.evaluations else np.isnan(self.known_fitness)
        if not len(self.known_fitness) or not finite.all():
            raise ValueError("fitness is missing after an evaluation, or there before one")


@register("tpe")
@dataclasses.dataclass(frozen=True)
class ModelSearch(Searcher):
    """Search by a model of which choices make good programs, fitted by Optuna to all that is known.

    Every slot of a program of the largest size is a set of choices: its op, or none; addresses; constants. The model
    proposes a cohort at a time, then learns how good it was. It is slow beside evolution (3 to 5 programs a second
    in the space of the demo), and meant for expensive evaluations.

    Attributes:
      cohort: Number of programs proposed and evaluated together.
      sampler: The model: tpe (Parzen estimators of good and bad programs), gp (a Gaussian process, which needs PyTorch)
        or random.
      startup: How many programs are proposed at random first.
      remember: How many programs the model is fitted to: the best for a quarter, and others evenly from all ranks.

    Raises:
      ValueError: Optuna, or PyTorch for gp, is not installed; a Setup of initial values; numbers out of range.
    """

    cohort: int = 20
    sampler: Literal["tpe", "gp", "random"] = "tpe"
    startup: int = 100
    remember: int = 500

    state_type: ClassVar[type[State]] = ModelState

    def __post_init__(self) -> None:
        for name in ("cohort", "startup"):
            check_number(name, getattr(self, name))
        if not 2 <= self.remember <= 100_000:
            raise ValueError(f"remember must be from 2 to 100,000, not {self.remember}")
        if self.space.genes:
            raise ValueError("tpe proposes instructions: give Setup ops, and leave out the space's initial_values")
        with _optuna() as optuna:
            _sampler(optuna, self.sampler, self.startup, 0)

    def init(self, seed: int | np.random.SeedSequence) -> ModelState:
        """The state before the first evaluation."""
        empty = Programs.from_lists([[[[0]] * size for size in self.space.capacity]], self.space.memory)
        return ModelState(0, None, Rng.of(np.random.default_rng(seed)), empty, np.full(1, np.nan))

    def ask(self, state: ModelState) -> tuple[ModelState, Candidates]:
        """The state, its generator advanced, and what the model proposes."""
        self.check_kind(state)
        rng = state.generator()
        with _optuna() as optuna:
            study = self._study(optuna, state)
            study.sampler = _sampler(optuna, self.sampler, self.startup, int(rng.integers(2**32)))
            made = [_proposed(study.ask(), self.space) for _ in range(self.cohort)]
        programs = concatenate(made)
        return dataclasses.replace(state, rng=Rng.of(rng)), self.candidates(programs)

    def tell(self, state: ModelState, candidates: Candidates, scores: Scores) -> ModelState:
        """The state after the evaluation of a cohort."""
        fitness = combined(candidates, scores)
        programs, known = candidates.programs, fitness
        if state.evaluations:
            programs = concatenate([state.programs, programs])
            known = np.concatenate([state.known_fitness, fitness])
        if len(known) > self.remember:
            best, rest = np.split(np.argsort(-known, kind="stable"), [self.remember // 4])
            thinned = rest[np.linspace(0, len(rest) - 1, self.remember - len(best)).round().astype(np.int64)]
            kept = np.sort(np.concatenate([best, thinned]))
            programs, known = programs[kept], known[kept]
        changes: dict[str, Any] = {"programs": programs, "known_fitness": known}
        return with_scores(state, candidates, fitness, **changes)

    def check(self, state: ModelState) -> None:
        """As in `Searcher`."""
        super().check(state)
        check_layout(state.programs, self.space)
        if len(state.programs) > self.remember:
            raise ValueError(f"the state is of another search: it knows {len(state.programs)} programs")

    def _study(self, optuna: Any, state: ModelState) -> Any:
        """A study that knows what the state does."""
        study = optuna.create_study(direction="maximize")
        if state.evaluations:
            for i, fitness in enumerate(state.known_fitness.tolist()):
                params, kinds = _choices_of(state.programs[i], self.space, optuna)
                study.add_trial(optuna.trial.create_trial(params=params, distributions=kinds, value=fitness))
        return study


# ---------------------------------------------------------------------------------------------- slots as choices


def _slots(space: SearchSpace) -> Iterator[tuple[str, int, tuple[int, ...]]]:
    """For each slot its name and place, and the ops that may stand there, NO_OP first."""
    place = 0
    for component, (name, size) in enumerate(zip(COMPONENTS, space.capacity, strict=True)):
        for slot in range(size):
            yield f"{name}{slot}", place, (0, *space.ops[component])
            place += 1


def _fields(op: int, space: SearchSpace) -> list[tuple[int, str, int, int]]:
    """For each address of an op its column, its name, and the first and the last choice."""
    fields = []
    kinds = [int(kind) for kind in (*ops.INPUT_KINDS[op], ops.OUTPUT_KINDS[op])]
    for column, kind in enumerate(kinds, 1):
        if kind >= 0:
            n = space.memory[kind]
            first = 1 if column == 3 and kind < 2 and n > 1 else 0  # label and features are not written
            fields.append((column, f"{['in1', 'in2', 'out'][column - 1]}.{ops.KINDS[kind]}", first, n))
    return fields


def _constants(op: int) -> list[tuple[int, str, float]]:
    """For each constant of an op its column, its name, and the least it may be."""
    meanings = [str(one) for one in ops.CONSTANT_MEANINGS[op]]
    return [(i, f"{m}{i}", 0.0 if m in ("index", "stdev") else -LARGEST) for i, m in enumerate(meanings) if m]


def _proposed(trial: Any, space: SearchSpace) -> Programs:
    """The program that a trial stands for."""
    slots = sum(space.capacity)
    code, data = np.zeros((1, slots, 4), np.int32), np.zeros((1, slots, 3), np.float32)
    for name, place, allowed in _slots(space):
        op = code[0, place, 0] = trial.suggest_categorical(f"{name}.op", allowed)
        for column, field, first, end in _fields(op, space):
            code[0, place, column] = trial.suggest_categorical(f"{name}.{field}", tuple(range(first, end)))
        for column, field, least in _constants(op):
            data[0, place, column] = trial.suggest_float(f"{name}.{field}", least, LARGEST)
    return Programs(code, data, np.array([space.capacity], np.int32), space.capacity, space.memory)


def _choices_of(program: Programs, space: SearchSpace, optuna: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a trial that proposed this program would have chosen, and from what."""
    categories, numbers = optuna.distributions.CategoricalDistribution, optuna.distributions.FloatDistribution
    code, data = np.asarray(program.code)[0].tolist(), np.asarray(program.data)[0].tolist()
    params: dict[str, Any] = {}
    kinds: dict[str, Any] = {}
    for name, place, allowed in _slots(space):
        op = code[place][0]
        params[f"{name}.op"], kinds[f"{name}.op"] = op, categories(allowed)
        for column, field, first, end in _fields(op, space):
            params[f"{name}.{field}"] = code[place][column]
            kinds[f"{name}.{field}"] = categories(tuple(range(first, end)))
        for column, field, least in _constants(op):
            params[f"{name}.{field}"] = data[place][column]
            kinds[f"{name}.{field}"] = numbers(least, LARGEST)
    return params, kinds


# ---------------------------------------------------------------------------------------------- Optuna


@contextlib.contextmanager
def _optuna() -> Iterator[Any]:
    """Optuna, which says nothing here."""
    try:
        import optuna
    except ModuleNotFoundError:
        raise ValueError("tpe needs Optuna: pip install 'zero-jax[optuna]'") from None
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield optuna
    finally:
        optuna.logging.set_verbosity(verbosity)


def _sampler(optuna: Any, name: str, startup: int, seed: int) -> Any:
    """A sampler of Optuna.

    Raises:
      ValueError: an unknown one, or one whose library is missing.
    """
    if name == "tpe":
        return optuna.samplers.TPESampler(n_startup_trials=startup, multivariate=True, group=True, seed=seed)
    if name == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    if name != "gp":
        raise ValueError(f"sampler must be tpe, gp or random, not {name!r}")
    try:
        import torch  # noqa: F401
    except ModuleNotFoundError:
        raise ValueError("sampler 'gp' needs PyTorch: pip install torch, or take sampler='tpe'") from None
    return optuna.samplers.GPSampler(n_startup_trials=startup, seed=seed)
