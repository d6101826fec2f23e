"""The SIMD executor: Numba on a CPU, sixteen numbers in a vector register, a true branch for each instruction.

Tasks are taken sixteen at a time. Threads take (program, group) after (program, group) off a common counter; each
trains one program at a time in memory of its own.
Axes: `P` programs, `T` tasks, `G` groups, `N` training and `K` validation examples, `F` features, `E` epochs.
"""

import threading
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from zero_jax.executors import fusion
from zero_jax.executors.simd import arrays, translate
from zero_jax.executors.simd import feature_lanes as f
from zero_jax.executors.simd import machine as m
from zero_jax.executors.simd import vector as v
from zero_jax.executors.simd.arrays import LaneTasks
from zero_jax.executors.simd.layout import Layout
from zero_jax.executors.simd.training import train_programs
from zero_jax.program import canonical, ops
from zero_jax.program.canonical import table
from zero_jax.program.memory import MemorySize
from zero_jax.program.programs import Programs
from zero_jax.support import threads as parallel
from zero_jax.support.compiled import entry_point, source_version

UNROLLED: tuple[int, ...] = (4, 8, 16, 32)
"""The numbers of features that loops are unrolled for, each compiled when it is first met: it trains the network 1.1 to
1.25 times as fast as the loops for any F."""

UNROLLED_REGISTERS = 4
"""Up to that many registers of a vector loops are compiled for their number."""

_BRIEF_SECONDS = 0.1
"""A call that should take less time runs on the caller's thread too, where Ctrl-C waits for it to end."""


_LONG = 500
"""From this many training examples on, superinstructions save more than finding them takes: 0.4 us a program."""


_BLOCK = 16
"""How many (program, group) a thread takes at a time if there are plenty: threads should not write side by side."""


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
      tasks: from `arrays.lay_out`.
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
    n_programs, groups, layout = len(rows), len(tasks.masks), tasks.layout
    at_once = min(threads or parallel.cores(), max(1, n_programs * groups))
    examples = tasks.order.shape[0] * (tasks.train_x.shape[1] + tasks.valid_x.shape[1])
    width = groups * v.WIDTH
    fitness, steps = np.zeros((n_programs, width), np.float32), np.zeros((n_programs, width), np.int32)
    errors = np.zeros((n_programs, examples, width) if want == "errors" else (0, 0, 0), np.float32)
    prints = np.zeros((n_programs, groups, 2), np.uint64)
    fuse = (tasks.order.size >= _LONG if fuse is None else fuse) and sum(programs.memory) <= 64 and want != "memory"
    used = layout.memory_numbers(programs.memory) + layout.scratch_numbers(programs.memory) + 1
    items = max(1, min(_BLOCK, n_programs * groups // (_BLOCK * at_once)))
    settings = _settings(tasks, seed, fuse, want, (used - 1) * v.WIDTH, items)
    flags = np.zeros(2, np.int64)
    given, left = _carried(programs, tasks, n_programs if want == "memory" else 0)
    data = (tasks.train_x, tasks.train_y, tasks.valid_x, tasks.valid_y, tasks.ids, flags[:1], flags[1:], given, left)
    addresses = np.array([part.ctypes.data for part in data])
    code, constants, length = (np.ascontiguousarray(part) for part in (programs.code, programs.data, programs.length))
    before = *sizes(layout), settings, addresses
    tasks_of_last = tasks.n_tasks - (groups - 1) * v.WIDTH
    after = (
        code, constants, length, np.array(programs.starts),
        table(programs.memory), np.array(tasks.interface(programs.memory)),
        np.stack([translate.places(programs.memory, layout, each) for each in (tasks.in_group, tasks_of_last)]),
        tasks.order, tasks.masks,
        np.float32(max_abs_error),
    )  # fmt: skip

    def work(chosen: np.ndarray = rows) -> None:
        scratch = _scratch(programs)
        places = np.array([part.ctypes.data for part in (scratch[1], _buffer(used))])
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
        _left(left, programs.memory, tasks) if want == "memory" else None,
    )


def _carried(programs: Programs, tasks: LaneTasks, n_programs: int) -> tuple[np.ndarray, np.ndarray]:
    """Memory as laid out: `[G, numbers, 16]` that runs begin with, and `[P, G, numbers, 16]` for what each leaves."""
    groups = len(tasks.masks) if n_programs else 0
    numbers = tasks.layout.memory_numbers(programs.memory) + tasks.layout.scratch_numbers(programs.memory)
    given = arrays.aligned((groups, numbers, v.WIDTH))
    given[:] = 0
    if n_programs and tasks.memory is not None:
        values = [np.asarray(part, np.float32) for part in tasks.memory]
        arrays.into_lanes(values, tasks.layout, given)
    left = arrays.aligned((n_programs, *given.shape))
    left[:] = given
    return given, left


def _left(laid_out: np.ndarray, memory: MemorySize, tasks: LaneTasks) -> tuple[np.ndarray, ...]:
    """The memory of each program on each task, by kind."""
    like = _memory_like(memory, tasks.n_tasks, tasks.layout.features)
    each = [arrays.out_of_lanes(one, like, tasks.layout) for one in laid_out]
    return tuple(np.stack(parts) for parts in zip(*each, strict=True))


def _memory_like(memory: MemorySize, n_tasks: int, features: int) -> list[np.ndarray]:
    """Arrays of the shape of a program's memory on tasks, which take no room."""
    shapes = (memory.scalars,), (memory.vectors, features), (memory.matrices, features, features)
    return [np.broadcast_to(np.float32(0), (n_tasks, *shape)) for shape in shapes]


def _settings(tasks: LaneTasks, seed: int, fuse: bool, want: Wanted, print_place: int, items: int) -> np.ndarray:
    """What `training.py` takes under that name, in its order."""
    return np.array(
        [
            tasks.layout.features,
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
            tasks.in_group,
        ]
    )


def _seconds(programs: Programs, tasks: LaneTasks, count: int) -> float:
    """A rough upper estimate of how long one thread takes to train that many programs."""
    features, slots = tasks.layout.features, programs.code.shape[1]
    steps = tasks.train_x.shape[1] * slots + tasks.valid_x.shape[1] * max(1, programs.capacity[1])
    each = features * features if programs.memory.matrices else features
    return count * len(tasks.masks) * tasks.order.shape[0] * steps * (5 + 0.2 * each) * 1e-9


def execute(
    programs: Programs,
    memory: tuple[np.ndarray, ...],
    component: int,
    seed: int,
    ids: np.ndarray,
    layout: Layout | None = None,
) -> tuple[np.ndarray, ...]:
    """Runs one component of every program once on a given memory, as it stands: never pruned or fused.

    Args:
      programs: `P` valid programs, random instructions numbered (`liveness.number_draws`).
      memory: `[P, T, S]`, `[P, T, V, F]`, `[P, T, M, F, F]`.
      component: 0, 1 or 2.
      seed: of the random stream.
      ids: `[T]` task ids, of the random stream.
      layout: by default the faster.
    """
    features, (n_programs, n_tasks, _) = memory[1].shape[-1], memory[0].shape
    layout = layout or Layout.of(features, n_tasks)
    numbers = layout.memory_numbers(programs.memory)
    buffer = arrays.aligned((1, numbers + layout.scratch_numbers(programs.memory), v.WIDTH))
    results = tuple(np.zeros(part.shape, np.float32) for part in memory)
    rows = np.zeros((programs.starts[-1], m.COLUMNS), np.int64)
    constants = rows.view(np.float32)
    for p in range(n_programs):
        for first in range(0, n_tasks, v.WIDTH):
            some = slice(first, min(first + v.WIDTH, n_tasks))
            tasks = some.stop - first
            count = _plain_rows(
                programs, p, component, translate.places(programs.memory, layout, tasks), rows, constants
            )
            values, buffer[:] = [np.asarray(part[p, some]) for part in memory], 0
            arrays.into_lanes(values, layout, buffer)
            group = np.resize(np.asarray(ids)[some], v.WIDTH).astype(np.uint32)
            places = np.array([part.ctypes.data for part in (rows, buffer, group)])
            _run_once(*sizes(layout), features, tasks, places, count, numbers * v.WIDTH, seed, component)
            for result, after in zip(results, arrays.out_of_lanes(buffer, values, layout), strict=True):
                result[p, some] = after
    return results


# ---------------------------------------------------------------------------------------------- memory and threads


_SOURCES = source_version(
    canonical.__file__,
    fusion.__file__,
    *(str(Path(__file__).parent / f"{name}.py") for name in ("across", "carry", "feature_lanes", "layout", "machine")),
    *(str(Path(__file__).parent / f"{name}.py") for name in ("training", "translate", "vector")),
)


def sizes(layout: Layout) -> tuple[v.Size, v.Size | None]:
    """F and R, as loops are compiled for them."""
    features = v.Size(layout.features if layout.features in UNROLLED else 0, _SOURCES)
    known = layout.registers if layout.features <= UNROLLED_REGISTERS * v.WIDTH else 0
    return features, v.Size(known, _SOURCES) if layout.registers else None


_kept = threading.local()


def _buffer(numbers: int) -> np.ndarray:
    """Memory for one program in training, of this thread, used again by the next call."""
    buffer = getattr(_kept, "buffer", None)
    if buffer is None or len(buffer) < numbers * v.WIDTH:
        buffer = _kept.buffer = arrays.aligned([numbers * v.WIDTH])
    return buffer


def _scratch(programs: Programs) -> tuple[Any, ...]:
    """What `translate` works with and writes."""
    slots, made = programs.starts[-1], np.zeros((translate.most_rows(programs), m.COLUMNS), np.int64)
    return (
        (tuple(np.zeros((4, slots), np.uint64)), np.zeros(slots, np.bool_), np.zeros((slots, 8), np.int64)),
        made, made.view(np.float32), np.zeros(6, np.int64),
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------- one component, once


@entry_point
def _run_once(size, registers, features, tasks, addresses, count, scratch, seed, draw):  # type: ignore[no-untyped-def]
    before = v.flush_subnormals()
    memory, ids = addresses[1], addresses[2]
    for k in range(count):
        row = addresses[0] + k * m.ROW_BYTES
        op = v.integer(row, m.OP)
        if registers is None:
            m.step(size, features, op, row, memory, scratch, seed, ids, 0, draw)
        else:
            f.step(registers, size, features, tasks, op, row, memory, scratch, seed, ids, 0, draw)
    v.restore(before)


def _plain_rows(
    programs: Programs, p: int, component: int, places: np.ndarray, rows: np.ndarray, data: np.ndarray
) -> int:
    """Rows for one component as it stands, memory being laid out as the program says; returns how many."""
    first = np.cumsum([0, *programs.memory])
    start, count = programs.starts[component], int(programs.length[p, component])
    for i in range(count):
        op, *fields = programs.code[p, start + i].tolist()
        kinds = (*ops.INPUT_KINDS[op], ops.OUTPUT_KINDS[op])
        a, b, out = (
            places[first[kind] + field] if kind >= 0 else (0, 0) for kind, field in zip(kinds, fields, strict=True)
        )
        ordinal = int(programs.data[p, start + i, 2]) if op in ops.RANDOM else 0
        rows[i, : m.ORDINAL + 1] = [op, a[0], b[0], 0, 0, *out, ordinal]
        data[i, m.CONSTANTS : m.CONSTANTS + 3] = programs.data[p, start + i]
    return count
