"""Three things that evolution adds to a network (paper, 4.3): found in a program by its dataflow, and taken out again.

- noise: a random instruction in Predict or Learn;
- decay: a scalar that multiplies something in Learn and shrinks by 5% or more in the course of training, in the same way
  whatever the data (two tasks are run side by side, step by step);
- weights: a mean, norm or standard deviation of a matrix in Predict or Learn.

Dead code does not count. What a program is without one of them has constants in its place: the mean of the noise, or the
mean over training, on two tasks, of the scalar that shrinks or of the function of the weights.
"""

from collections.abc import Callable

import numpy as np

from zero_jax import Programs, Tasks, execute
from zero_jax.program import ops
from zero_jax.program.canonical import pruned
from zero_jax.program.memory import Interface

TRAITS = ("noise", "decay", "weights")
REDUCTIONS = (34, 51, 55)  # of a matrix to a scalar: norm, mean, standard deviation
PRODUCTS = (3, 4, 18, 29)  # of or by a scalar
CONSTANT = 56  # SCALAR_CONST_SET
SHRINKS = 0.95
TRACED, AVERAGED = 300, 2000
"""The most training steps to tell whether a scalar shrinks, and to average over."""

Row = list[float]
"""An instruction as `Programs.to_lists` gives it: op, in1, in2, out, and four constants."""


def traits(program: Programs, tasks: Tasks) -> dict[str, bool]:
    """Which of the three a program has, on two tasks."""
    short = live(program, tasks)
    first = short.starts[1]
    used = [op for op in np.asarray(short.code)[0, first:, 0].tolist() if op]
    return {
        "noise": any(op in ops.RANDOM for op in used),
        "decay": bool(shrinking(short, tasks[:2])),
        "weights": any(op in REDUCTIONS for op in used),
    }


def live(program: Programs, tasks: Tasks) -> Programs:
    """Without dead code."""
    return pruned(program, Interface.of(program.memory, tasks))


def shrinking(program: Programs, tasks: Tasks) -> list[int]:
    """The scalars that multiply something in Learn and shrink, equally on both tasks."""
    start, end = program.starts[2], program.starts[2] + int(program.length[0, 2])
    code = np.asarray(program.code)[0, start:end]
    factors = {
        int(row[i]) for row in code for i in (1, 2) if row[0] in PRODUCTS and ops.OPS[row[0]].inputs[i - 1] == "s"
    }
    listed = sorted(factors)
    seen = traced(program, tasks)[:, :, listed]
    with np.errstate(invalid="ignore"):
        size = np.abs(seen)
        equal = (seen[:, 0] == seen[:, 1]).all(0)
        falls = (np.diff(size[:, 0], axis=0) <= 0).mean(0) > 0.9
        shrinks = equal & falls & (size[0, 0] > 0) & (size[-1, 0] < SHRINKS * size[0, 0])
    return [scalar for scalar, really in zip(listed, shrinks.tolist(), strict=True) if really]


# ---------------------------------------------------------------------------------------------- taken out


def without(program: Programs, trait: str, tasks: Tasks) -> Programs:
    """The program with constants in place of one of the three, which it has."""
    short = live(program, tasks)
    if trait == "noise":
        return rewritten(short, lambda row: [calm(row)])
    if trait == "weights":
        return _without_weights(short, tasks[:2])
    scalars = shrinking(short, tasks[:2])
    means = dict(zip(scalars, _means(short, tasks[:2], scalars), strict=True))

    def steady(row: Row) -> list[Row]:
        is_one = ops.OPS[int(row[0])].output == "s" and row[3] in means
        return [constant(row, means[int(row[3])]) if is_one else row]

    return rewritten(short, steady)


def rewritten(program: Programs, change: Callable[[Row], list[Row]], more: int = 0) -> Programs:
    """The program with other instructions in place of each one of Predict and Learn, and `more` scalars."""
    setup, *others = program.to_lists()[0]
    changed = [[new for row in component for new in change(row)] for component in others]
    scalars, vectors, matrices = program.memory
    return Programs.from_lists([[setup, *changed]], (scalars + more, vectors, matrices))


def calm(row: Row) -> Row:
    """A random instruction that draws nothing but its mean; others are left as they are."""
    if row[0] not in ops.RANDOM:
        return row
    first, second = row[5], row[6]
    if ops.OPS[int(row[0])].constants == ("mean", "stdev"):
        return [*row[:5], first, 0.0]
    return [*row[:5], (first + second) / 2, (first + second) / 2]


def constant(row: Row, value: float) -> Row:
    """Sets the scalar that the instruction writes."""
    return [CONSTANT, 0, 0, row[3], value]


def _without_weights(program: Programs, tasks: Tasks) -> Programs:
    """What each reduction gives is watched in a scalar of its own, which a second one behind it writes."""
    first = program.memory.scalars
    watched: list[int] = []

    def twice(row: Row) -> list[Row]:
        if row[0] not in REDUCTIONS:
            return [row]
        watched.append(first + len(watched))
        return [[*row[:3], watched[-1], *row[4:]], row]

    count = sum(row[0] in REDUCTIONS for component in program.to_lists()[0][1:] for row in component)
    means = iter(_means(rewritten(program, twice, count), tasks, list(range(first, first + count))))
    return rewritten(program, lambda row: [constant(row, next(means)) if row[0] in REDUCTIONS else row])


def _means(program: Programs, tasks: Tasks, scalars: list[int]) -> list[float]:
    """The mean of each over training on all tasks, of what is finite."""
    seen = traced(program, tasks, AVERAGED)[:, :, scalars]
    kept = np.isfinite(seen)
    totals = np.where(kept, seen, 0).sum((0, 1), dtype=np.float64)
    return (totals / np.maximum(kept.sum((0, 1)), 1)).tolist()


# ---------------------------------------------------------------------------------------------- step by step


def traced(program: Programs, tasks: Tasks, most: int = TRACED) -> np.ndarray:
    """`[steps, 2, S]`: the scalars when Learn has run on each of the first examples, `most` of them at most."""
    s, v, m = program.memory
    f, steps = tasks.features, min(most, tasks.epochs * tasks.train_x.shape[1])
    memory = np.zeros((1, 2, s)), np.zeros((1, 2, v, f)), np.zeros((1, 2, m, f, f))
    scalars, vectors, matrices = map(np.array, execute(program, memory, "setup", "simd"))
    seen = []
    for i in tasks.order.reshape(-1)[:steps]:
        x, y = tasks.train_x[:, i], tasks.train_y[:, i]
        vectors[0, :, 0] = x
        _tell(scalars, vectors, np.full(2, -1.0) if tasks.vector_labels else np.zeros(2), tasks)
        scalars, vectors, matrices = map(np.array, execute(program, (scalars, vectors, matrices), "predict", "simd"))
        _normalise(scalars, vectors, tasks)
        vectors[0, :, 0] = x
        _tell(scalars, vectors, y, tasks)
        scalars, vectors, matrices = map(np.array, execute(program, (scalars, vectors, matrices), "learn", "simd"))
        seen.append(scalars[0])
    return np.array(seen)


def _tell(scalars: np.ndarray, vectors: np.ndarray, y: np.ndarray, tasks: Tasks) -> None:
    if tasks.vector_labels:
        vectors[0, :, 1] = np.arange(tasks.features) == y[:, None]
    else:
        scalars[0, :, 0] = y


def _normalise(scalars: np.ndarray, vectors: np.ndarray, tasks: Tasks) -> None:
    with np.errstate(all="ignore"):
        if tasks.vector_labels:
            each = np.exp(vectors[0, :, 2, : tasks.classes] - vectors[0, :, 2, : tasks.classes].max(1, keepdims=True))
            vectors[0, :, 2, : tasks.classes] = each / each.sum(1, keepdims=True)
        else:
            scalars[0, :, 1] = 1 / (1 + np.exp(-scalars[0, :, 1]))
