"""The fitness of every canonical program of a small space, on each task and at several fidelities.

Axes: `P` programs of the table, `n` programs looked up, `T` tasks, `R` fidelities.
"""

import dataclasses
import gzip
import zlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
from sklearn.datasets import load_digits

from zero_jax.evaluation import Evaluator
from zero_jax.evaluation.base import Batch, Fate, Steps
from zero_jax.program.memory import MemorySize
from zero_jax.program.ops import CONSTANT_COUNTS
from zero_jax.program.space import Component, SearchSpace
from zero_jax.search import GridSearch
from zero_jax.support import files
from zero_jax.support.codec import Array, decode, encode
from zero_jax.support.foreign import expected, shown
from zero_jax.tasks import Tasks, synthetic

SPACE = SearchSpace(
    memory=MemorySize(2, 3, 0),
    setup=Component((), (0, 0, 0)),
    predict=Component(["VECTOR_INNER_PRODUCT"], (1, 1, 1)),
    learn=Component(["SCALAR_DIFF", "SCALAR_VECTOR_PRODUCT", "VECTOR_SUM"], (0, 4, 4)),
)
"""The programs of all tables: no constants, so that there are finitely many; features are scaled so that a learning
rate of 1 is a good one."""

TASKS, SCALE = 4, 0.3
"""How many tasks a table has, and the standard deviation of their features."""

SHARES = (0.1, 0.3, 1.0)
"""The fidelities of a table: shares of the training examples."""

_KEY, _LEVELS, _BATCH = np.uint64(2**48 - 1), np.float32(65_535), 50_000


def _linear() -> Tasks:
    tasks = synthetic.linear(TASKS, features=4, train=300, valid=100, seed=1)
    return Tasks(SCALE * tasks.train_x, tasks.train_y, SCALE * tasks.valid_x, tasks.valid_y)


def _digits() -> Tasks:
    """Pairs of digits in 8 random projections, each of deviation `SCALE`."""
    images, classes = load_digits(return_X_y=True)
    rng, parts = np.random.default_rng(2), []
    for pair in ((3, 8), (1, 7), (4, 9), (5, 6)):
        rows = rng.permutation(np.flatnonzero(np.isin(classes, pair)))[:300]
        x = images[rows] @ rng.normal(size=(64, 8))
        parts.append((SCALE * (x - x[:200].mean(0)) / x[:200].std(0), (classes[rows] == pair[1]).astype(np.float32)))
    x, y = (np.stack(some).astype(np.float32) for some in zip(*parts, strict=True))
    return Tasks(x[:, :200], y[:, :200], x[:, 200:], y[:, 200:], loss="accuracy", classes=2)


_TASKS: dict[str, Callable[[], Tasks]] = {"linear": _linear, "digits": _digits}

NAMES = tuple(_TASKS)
"""The tables: linear regression with 4 features, and pairs of scikit-learn's digits in 8 random projections."""


class _Stored(NamedTuple):
    """A table as it is in a file: the lower 48 bits of sorted hashes as differences, fitness from 0 to 65,535."""

    steps: Annotated[np.ndarray, Array(np.int64, ("P",), least=0)]
    fitness: Annotated[np.ndarray, Array(np.uint16, ("P", "R", "T"))]
    tasks: str


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """The fitness of all programs of `SPACE` on some tasks.

    Attributes:
      name: one of `NAMES`.
      tasks: `T` tasks.
      keys: uint64 `[P]`, sorted: the lower 48 bits of the hash of each canonical form.
      fitness: float32 `[P, R, T]`, to 1 / 65,535; the fidelities are `SHARES`.

    Example:
      >>> table = load("linear")
      >>> table.fitness.shape, round(table.best, 3)
      ((163239, 3, 4), 1.0)
    """

    name: str
    tasks: Tasks
    keys: np.ndarray
    fitness: np.ndarray

    @property
    def best(self) -> float:
        """The highest mean fitness of any program, in full."""
        return float(self.means.max())

    @property
    def means(self) -> np.ndarray:
        """`[P]` the mean fitness over the tasks, in full."""
        return self.fitness[:, -1].mean(1, dtype=np.float64)

    def rows(self, hashes: np.ndarray) -> np.ndarray:
        """`[n]` the rows of programs with these hashes (uint64) of their canonical forms; -1 for one that it lacks."""
        wanted = hashes & _KEY
        at = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        return np.where(self.keys[at] == wanted, at, -1)

    def evaluator(self) -> Evaluator:
        """Evaluates programs by looking them up; one that the table lacks is trained."""
        return Evaluator(self.tasks, stages=(LookUp(self.name),))


class _Fidelity(NamedTuple):
    """What a `LookUp` goes by on a part of the tasks."""

    number: int


@dataclasses.dataclass(frozen=True)
class LookUp:
    """A stage that knows the fitness of all programs in a table, on all of its tasks or the first of them.

    Of the shares of examples that a table has, the nearest to the one asked for counts.

    Attributes:
      name: of the table.

    Raises:
      ValueError: an unknown name.
    """

    name: str

    def __post_init__(self) -> None:
        _checked(self.name)

    def memory(self, tasks: Tasks) -> _Fidelity:
        """As in `Stage`."""
        share = tasks.train_x.shape[1] / load(self.name).tasks.train_x.shape[1]
        return _Fidelity(int(np.argmin(np.abs(np.log(np.array(SHARES) / share)))))

    def run(self, batch: Batch, memory: _Fidelity, following: Callable[[Batch], Steps]) -> Steps:
        """As in `Stage`."""
        table = load(self.name)
        rows = table.rows(batch.hashes[:, 0])
        results, lacking = batch.results(Fate.KNOWN), np.flatnonzero(rows < 0)
        results.fitness[:] = table.fitness[rows, memory.number, : batch.tasks]
        if len(lacking):
            results.put(lacking, (yield from following(batch[lacking])))
        return results

    def check(self, memory: _Fidelity, like: _Fidelity, calls: int, where: str) -> None:
        """As in `Stage`."""
        if memory != like:
            raise ValueError(f"{where}: it looks up another fidelity")


# ---------------------------------------------------------------------------------------------- files


@lru_cache(maxsize=8)
def load(name: str) -> Table:
    """The table of that name, as the package brings it along.

    Raises:
      ValueError: an unknown name, or a file that does not belong to this version.
    """
    return read(name, Path(__file__).parent / "data" / f"{_checked(name)}.npz.gz")


def read(name: str, path: str | Path) -> Table:
    """A table from a file that `write` made.

    Raises:
      ValueError: a file that is damaged, or of other tasks than those of this version.
      OSError: it cannot be read.
    """
    tasks = _TASKS[_checked(name)]()
    try:
        stored = decode(_Stored, files.unpacked(_unzipped(Path(path).read_bytes())), "it")
        if stored.fitness.shape[1:] != (len(SHARES), TASKS) or stored.tasks != tasks.digest():
            raise ValueError("it has other tasks or fidelities than this version")
    except ValueError as error:
        again = f"make it anew: zero-jax benchmark {name} --build FILE"
        raise ValueError(f"{path} is not the table {name}: {error}; {again}") from error
    return Table(name, tasks, np.cumsum(stored.steps).astype(np.uint64), stored.fitness / _LEVELS)


def write(table: Table, path: str | Path) -> None:
    """Writes a table as compressed NPZ, atomically."""
    steps = np.diff(table.keys.astype(np.int64), prepend=0)
    levels = np.round(table.fitness * _LEVELS).astype(np.uint16)
    packed = files.packed(encode(_Stored(steps, levels, table.tasks.digest())))
    files.write_atomically(Path(path), gzip.compress(packed, mtime=0))


def _unzipped(data: bytes) -> bytes:
    try:
        return gzip.decompress(data)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"it is not compressed as a table is ({error})") from None


def build(name: str, space: SearchSpace = SPACE) -> Table:
    """Makes a table: trains each canonical form of a space on every task and fidelity.

    It takes a minute or two for `SPACE` on 2 cores.

    Raises:
      ValueError: an unknown name, a space with constants, or two programs whose keys are equal.
    """
    tasks = _TASKS[_checked(name)]()
    if space.genes or any(CONSTANT_COUNTS[list(numbers)].any() for numbers in space.ops):
        raise ValueError("a table is of a space without constants, which has finitely many programs")
    search, evaluator = GridSearch(space, cohort=_BATCH), Evaluator(tasks, stages=())
    state, hashes, fitness = search.init(0), [], []
    while not search.exhausted(state):
        state, candidates = search.ask(state)
        shares = [dataclasses.replace(candidates, examples_share=share) for share in SHARES]
        scores = [evaluator(some) for some in shares]
        state = search.tell(state, candidates, scores[-1])
        hashes.append(candidates.hashes)
        fitness.append(np.stack([one.fitness for one in scores], axis=1))
    every = np.concatenate(hashes)
    keys, first = np.unique(every & _KEY, return_index=True)
    if len(keys) != len(np.unique(every)):
        raise ValueError("two programs have equal keys")
    levels = np.round(np.concatenate(fitness)[first] * _LEVELS)
    return Table(name, tasks, keys, levels.astype(np.float32) / _LEVELS)


def _checked(name: str) -> str:
    if name not in _TASKS:
        raise ValueError(f"unknown table {shown(name)}: {expected(name, NAMES)}")
    return name
