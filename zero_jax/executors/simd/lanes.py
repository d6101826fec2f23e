"""The SIMD executor: Numba on a CPU, sixteen tasks in a vector register, a true branch for each instruction.

Tasks stand side by side in groups of sixteen lanes, the last group filled up with copies of its first task. Threads
take (program, group) after (program, group) off a common counter; each trains one program at a time in memory of its
own.
Axes: `P` programs, `T` tasks, `G` groups, `N` training and `K` validation examples, `F` features, `E` epochs.
"""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from zero_jax.executors.simd import layout, translate
from zero_jax.executors.simd import machine as m
from zero_jax.executors.simd import vector as v
from zero_jax.executors.simd.training import train_programs
from zero_jax.program import ops
from zero_jax.program.canonical import table
from zero_jax.program.memory import Interface, MemorySize
from zero_jax.program.programs import Programs
from zero_jax.support import threads as parallel
from zero_jax.support.compiled import entry_point, source_version
from zero_jax.tasks import Tasks

UNROLLED: tuple[int, ...] = (4, 8, 16, 32)
"""The numbers of features that loops are unrolled for, each compiled when it is first met: it trains the network 1.1 to
1.25 times as fast as the loops for any F."""

_BRIEF_SECONDS = 0.1
"""A call that should take less time runs on the caller's thread too, where Ctrl-C waits for it to end."""


_LONG = 500
"""From this many training examples on, superinstructions save more than finding them takes: 0.4 us a program."""


_BLOCK = 16
"""How many (program, group) a thread takes at a time if there are plenty: threads should not write side by side."""


class LaneTasks(NamedTuple):
    """Tasks laid out in lanes.

    Attributes:
      train_x, train_y: float32 `[G, N, F, 16]` and `[G, N, 16]`, aligned to 64 bytes; valid_x, valid_y the same with K.
      order: int64 `[E, N]`.
      ids: uint32 `[G * 16]`.
      masks: int64 `[G]`, a bit for each lane that holds a task.
      n_tasks: T.
      accuracy: whether the loss is accuracy.
      classes: C where labels are vectors, else 0.
      memory: what runs begin with where memory is wanted, `[T, S]`, `[T, V, F]`, `[T, M, F, F]`; None for zeros.
    """

    train_x: np.ndarray
    train_y: np.ndarray
    valid_x: np.ndarray
    valid_y: np.ndarray
    order: np.ndarray
    ids: np.ndarray
    masks: np.ndarray
    n_tasks: int
    accuracy: bool
    classes: int
    memory: Sequence[Any] | None = None

    def interface(self, memory: MemorySize) -> Interface:
        """Where programs of that memory size find features and labels."""
        return (Interface.vector if self.classes else Interface.scalar)(memory)


class Result(NamedTuple):
    """What an evaluation returns, as NumPy arrays.

    Attributes:
      fitness: `[P, T]` float32.
      train_steps: `[P, T]` int32.
      errors: `[P, T, E * (N + K)]` float32, or None.
      fingerprints: `[P, G, 2]` uint64, hashes of all errors on a group of tasks, or None.
      memory: `[P, T, S]`, `[P, T, V, F]`, `[P, T, M, F, F]` that training leaves, or None.
    """

    fitness: np.ndarray
    train_steps: np.ndarray
    errors: np.ndarray | None
    fingerprints: np.ndarray | None
    memory: tuple[np.ndarray, ...] | None = None


def lay_out(tasks: Tasks) -> LaneTasks:
    """Lays tasks out in lanes: a copy of their data, up to sixteen times as large for a single task."""
    n_tasks = len(tasks)
    groups, lane = -(-n_tasks // v.WIDTH), _tasks_of_lanes(n_tasks)

    def lanes(values: Any) -> np.ndarray:
        values = np.asarray(values, np.float32)
        out = _aligned(groups * int(np.prod(values.shape[1:])) * v.WIDTH)
        shaped = out.reshape(groups, *values.shape[1:], v.WIDTH)
        for g in range(groups):
            shaped[g] = np.moveaxis(values[lane[g * v.WIDTH : (g + 1) * v.WIDTH]], 0, -1)
        return shaped

    masks = [(1 << min(v.WIDTH, n_tasks - g * v.WIDTH)) - 1 for g in range(groups)]
    return LaneTasks(
        lanes(tasks.train_x),
        lanes(tasks.train_y),
        lanes(tasks.valid_x),
        lanes(tasks.valid_y),
        np.ascontiguousarray(tasks.order, np.int64),
        np.asarray(tasks.ids)[lane].astype(np.uint32),
        np.array(masks, np.int64),
        n_tasks,
        tasks.loss == "accuracy",
        tasks.vector_classes,
    )


def _tasks_of_lanes(n_tasks: int) -> np.ndarray:
    """`[G * 16]` which task each lane holds; the last group is filled up with its first task."""
    lane = np.arange(-(-n_tasks // v.WIDTH) * v.WIDTH)
    return np.where(lane < n_tasks, lane, lane // v.WIDTH * v.WIDTH)


Wanted = Literal["fitness", "errors", "fingerprints", "memory"]
"""What `evaluate` returns: errors, fingerprints and memory come with the fitness."""


def evaluate(
    programs: Programs,
    tasks: LaneTasks,
    seed: int,
    max_abs_error: float = 100.0,
    *,
    rows: np.ndarray | None = None,
    threads: int | None = None,
    fuse: bool | None = None,
    want: Wanted = "fitness",
) -> Result:
    """Trains every program on every task.

    Args:
      programs: `P` valid programs in canonical form (`canonical.canonical`), which has no dead code.
      tasks: from `lay_out`.
      seed: of the random stream; its lower 32 bits count.
      max_abs_error: a larger error, or NaN, stops a run.
      rows: int64 `[P]`, which of the programs to train, for P of the result; by default all.
      threads: how many; by default one per core. The result does not depend on it.
      fuse: whether to make superinstructions; by default if there are enough examples for it to pay.
      want: `errors` adds the error of each example, training and validation, epoch by epoch, 0 once a run has stopped:
        for accuracy y - sigmoid(s1) in training and y - s1 in validation, for vector labels the largest |label -
        probability| of a class in both. `fingerprints` adds hashes of those errors, and `memory`, with which runs
        begin with what the tasks say, what training leaves.

    Raises:
      KeyboardInterrupt: after Ctrl-C, within a second, however much is left to do.
    """
    rows = np.arange(len(programs)) if rows is None else rows
    n_programs, groups, features = len(rows), len(tasks.masks), tasks.train_x.shape[2]
    at_once = min(threads or parallel.cores(), max(1, n_programs * groups))
    examples = tasks.order.shape[0] * (tasks.train_x.shape[1] + tasks.valid_x.shape[1])
    width = groups * v.WIDTH
    fitness, steps = np.zeros((n_programs, width), np.float32), np.zeros((n_programs, width), np.int32)
    errors = np.zeros((n_programs, examples, width) if want == "errors" else (0, 0, 0), np.float32)
    prints = np.zeros((n_programs, groups, 2), np.uint64)
    fuse = (tasks.order.size >= _LONG if fuse is None else fuse) and sum(programs.memory) <= 64 and want != "memory"
    used = layout.memory_numbers(programs.memory, features) + layout.scratch_numbers(programs.memory, features) + 1
    items = max(1, min(_BLOCK, n_programs * groups // (_BLOCK * at_once)))
    settings = _settings(tasks, seed, fuse, want, (used - 1) * v.WIDTH, items)
    flags = np.zeros(2, np.int64)
    given, left = _carried(programs, tasks, n_programs if want == "memory" else 0)
    data = (tasks.train_x, tasks.train_y, tasks.valid_x, tasks.valid_y, tasks.ids, flags[:1], flags[1:], given, left)
    addresses = np.array([part.ctypes.data for part in data])
    code, constants, length = (np.ascontiguousarray(part) for part in (programs.code, programs.data, programs.length))
    before = size(features), settings, addresses
    after = (
        code, constants, length, np.array(programs.starts),
        table(programs.memory), np.array(tasks.interface(programs.memory)),
        translate.places(programs.memory, features), tasks.order, tasks.masks,
        np.float32(max_abs_error),
    )  # fmt: skip

    def work(chosen: np.ndarray = rows) -> None:
        scratch = _scratch(programs)
        places = np.array([part.ctypes.data for part in (*scratch[1:3], _buffer(used))])
        train_programs(*before, chosen, *after, scratch, places, fitness, steps, errors, prints)

    work(rows[:0])  # compiles for types that are new, on the thread that Ctrl-C reaches
    flags[0] = 0

    def stop() -> None:
        flags[1] = 1

    brief = _seconds(programs, tasks, n_programs) < _BRIEF_SECONDS * at_once
    parallel.share(work, at_once, brief=brief, stop=stop)
    return Result(
        fitness[:, : tasks.n_tasks],
        steps[:, : tasks.n_tasks],
        errors.transpose(0, 2, 1)[:, : tasks.n_tasks] if want == "errors" else None,
        prints if want == "fingerprints" else None,
        _out_of_lanes(left, programs.memory, tasks) if want == "memory" else None,
    )


def _carried(programs: Programs, tasks: LaneTasks, n_programs: int) -> tuple[np.ndarray, np.ndarray]:
    """Memory in lanes: `[G, numbers, 16]` that runs begin with, and `[P, G, numbers, 16]` for what each leaves."""
    groups, features = len(tasks.masks), tasks.train_x.shape[2]
    numbers = layout.memory_numbers(programs.memory, features) + layout.scratch_numbers(programs.memory, features)
    sizes = groups, numbers, v.WIDTH
    given = _aligned(int(np.prod(sizes)) if n_programs else 0).reshape(sizes if n_programs else (0, 0, 0))
    given[:] = 0
    if n_programs and tasks.memory is not None:
        flat = np.concatenate([np.asarray(part, np.float32).reshape(tasks.n_tasks, -1) for part in tasks.memory], 1)
        by_lane = flat[_tasks_of_lanes(tasks.n_tasks)].reshape(groups, v.WIDTH, -1)
        given[:, : flat.shape[1]] = by_lane.transpose(0, 2, 1)
    left = _aligned(n_programs * given.size).reshape(n_programs, *given.shape)
    left[:] = given
    return given, left


def _out_of_lanes(left: np.ndarray, memory: MemorySize, tasks: LaneTasks) -> tuple[np.ndarray, ...]:
    """The memory of each program on each task, by kind."""
    n, features = len(left), tasks.train_x.shape[2]
    flat = left.transpose(0, 1, 3, 2).reshape(n, -1, left.shape[2])[:, : tasks.n_tasks]
    shapes = (memory.scalars,), (memory.vectors, features), (memory.matrices, features, features)
    parts = np.split(flat, np.cumsum([int(np.prod(shape)) for shape in shapes]), axis=2)
    return tuple(part.reshape(n, tasks.n_tasks, *shape) for part, shape in zip(parts, shapes, strict=False))


def _settings(tasks: LaneTasks, seed: int, fuse: bool, want: Wanted, print_place: int, items: int) -> np.ndarray:
    """What `training.py` takes under that name, in its order."""
    return np.array(
        [
            tasks.train_x.shape[2],
            tasks.train_x.shape[1],
            tasks.valid_x.shape[1],
            tasks.order.shape[0],
            tasks.accuracy,
            tasks.classes,
            int(seed) & 0xFFFFFFFF,
            fuse,
            want == "errors",
            want == "fingerprints",
            print_place,
            items,
            want == "memory",
        ]
    )


def _seconds(programs: Programs, tasks: LaneTasks, count: int) -> float:
    """A rough upper estimate of how long one thread takes to train that many programs."""
    features, slots = tasks.train_x.shape[2], programs.code.shape[1]
    steps = tasks.train_x.shape[1] * slots + tasks.valid_x.shape[1] * max(1, programs.capacity[1])
    each = features * features if programs.memory.matrices else features
    return count * len(tasks.masks) * tasks.order.shape[0] * steps * (5 + 0.2 * each) * 1e-9


def execute(
    programs: Programs, memory: tuple[np.ndarray, ...], component: int, seed: int, ids: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Runs one component of every program once on a given memory, as it stands: never pruned or fused.

    Args:
      programs: `P` valid programs, random instructions numbered (`liveness.number_draws`).
      memory: `[P, T, S]`, `[P, T, V, F]`, `[P, T, M, F, F]`.
      component: 0, 1 or 2.
      seed: of the random stream.
      ids: `[T]` task ids, of the random stream.
    """
    features, (n_programs, n_tasks, _) = memory[1].shape[-1], memory[0].shape
    flat = [part.reshape(n_programs, n_tasks, -1) for part in memory]
    used = sum(part.shape[-1] for part in flat)
    buffer = _aligned((used + layout.scratch_numbers(programs.memory, features)) * v.WIDTH).reshape(-1, v.WIDTH)
    results = np.zeros((n_programs, n_tasks, used), np.float32)
    rows = np.zeros((programs.starts[-1], 8), np.int64)
    constants = np.zeros((programs.starts[-1], 3), np.float32)
    for p in range(n_programs):
        values = np.concatenate([part[p] for part in flat], axis=-1)
        count = _plain_rows(programs, p, component, features, rows, constants)
        for first in range(0, n_tasks, v.WIDTH):
            lane = np.minimum(np.arange(first, first + v.WIDTH), n_tasks - 1)
            buffer[:used] = values[lane].T
            group = np.asarray(ids)[lane].astype(np.uint32)
            places = np.array([part.ctypes.data for part in (rows, constants, buffer, group)])
            _run_once(size(features), features, places, count, used * v.WIDTH, seed, component)
            results[p, first : first + v.WIDTH] = buffer[:used].T[: n_tasks - first]
    parts = np.split(results, np.cumsum([part.shape[-1] for part in flat])[:2], axis=-1)
    return tuple(part.reshape(whole.shape) for part, whole in zip(parts, memory, strict=True))


# ---------------------------------------------------------------------------------------------- memory and threads


_SOURCES = source_version(
    *(
        str(Path(__file__).parent / f"{name}.py")
        for name in ("../../program/canonical", "layout", "machine", "training", "translate", "vector")
    )
)


def size(features: int) -> v.Size:
    """F, as loops are compiled for it."""
    return v.Size(features if features in UNROLLED else 0, _SOURCES)


def _aligned(n: int) -> np.ndarray:
    """`n` float32 that begin at a multiple of 64 bytes."""
    raw = np.empty(n + v.WIDTH, np.float32)
    start = (-raw.ctypes.data % 64) // 4
    return raw[start : start + n]


_kept = threading.local()


def _buffer(numbers: int) -> np.ndarray:
    """Memory for one program in training, of this thread, used again by the next call."""
    buffer = getattr(_kept, "buffer", None)
    if buffer is None or len(buffer) < numbers * v.WIDTH:
        buffer = _kept.buffer = _aligned(numbers * v.WIDTH)
    return buffer


def _scratch(programs: Programs) -> tuple[Any, ...]:
    """What `translate` works with and writes."""
    slots, rows = programs.starts[-1], translate.most_rows(programs)
    return (
        (tuple(np.zeros((4, slots), np.uint64)), np.zeros(slots, np.bool_), np.zeros((slots, 8), np.int64)),
        np.zeros((rows, 8), np.int64), np.zeros((rows, 3), np.float32), np.zeros(5, np.int64),
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------- one component, once


@entry_point
def _run_once(size, features, addresses, count, scratch, seed, draw):  # type: ignore[no-untyped-def]
    before = v.flush_subnormals()
    for k in range(count):
        row, constants = addresses[0] + k * m.ROW_BYTES, addresses[1] + k * m.CONSTANT_BYTES
        op = v.integer(row, m.OP)
        m.step(size, features, op, row, constants, addresses[2], scratch, seed, addresses[3], 0, draw)
    v.restore(before)


def _plain_rows(programs: Programs, p: int, component: int, features: int, rows: np.ndarray, data: np.ndarray) -> int:
    """Rows for one component as it stands, memory being laid out as the program says; returns how many."""
    sizes = np.array([1, features, features * features])
    first = np.cumsum([0, *(np.array(programs.memory) * sizes)])[:3]
    start, count = programs.starts[component], int(programs.length[p, component])
    for i in range(count):
        op, *fields = programs.code[p, start + i].tolist()
        kinds = (*ops.INPUT_KINDS[op], ops.OUTPUT_KINDS[op])
        places = [
            int(first[kind] + sizes[kind] * a) * v.WIDTH if kind >= 0 else 0
            for kind, a in zip(kinds, fields, strict=True)
        ]
        written = int(sizes[kinds[2]]) if kinds[2] >= 0 else 0
        ordinal = int(programs.data[p, start + i, 2]) if op in ops.RANDOM else 0
        rows[i] = [op, places[0], places[1], 0, 0, places[2], written, ordinal]
        data[i] = programs.data[p, start + i]
    return count
