"""Tasks and memory as the SIMD executor lays them out, and back.

Axes: `P` programs, `T` tasks, `G` groups of up to sixteen tasks, `N` training and `K` validation examples, `F`
features, `R` registers for a vector of one task, `E` epochs.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from zero_jax.executors.simd.layout import WIDTH, Layout
from zero_jax.program.memory import Interface, MemorySize
from zero_jax.tasks import Tasks


class LaneTasks(NamedTuple):
    """Tasks as laid out.

    Attributes:
      layout: Which is followed.
      train_x, valid_x: float32 `[G, N, F, 16]` with tasks as lanes, `[G, N, min(T, 16), 16 R]` with features, aligned
        to 64 bytes.
      train_y, valid_y: float32 `[G, N, 16]`, with tasks as lanes.
      order: int64 `[E, N]`.
      ids: uint32 `[G * 16]`.
      masks: int64 `[G]`, a bit for each lane that holds a task.
      n_tasks: T.
      accuracy: whether the loss is accuracy.
      classes: C where labels are vectors, else 0.
      memory: what runs begin with where memory is wanted, `[T, S]`, `[T, V, F]`, `[T, M, F, F]`; None for zeros.
    """

    layout: Layout
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

    @property
    def in_group(self) -> int:
        """How many tasks a group has; the last may have fewer."""
        return min(self.n_tasks, WIDTH)

    def interface(self, memory: MemorySize) -> Interface:
        """Where programs of that memory size find features and labels."""
        return (Interface.vector if self.classes else Interface.scalar)(memory)


def lay_out(tasks: Tasks, layout: Layout | None = None) -> LaneTasks:
    """A copy of the tasks' data: with tasks as lanes up to sixteen times as large for a single task.

    Args:
      tasks: T of them.
      layout: by default the faster.
    """
    n_tasks = len(tasks)
    layout = layout or Layout.of(tasks.features, n_tasks)
    groups = -(-n_tasks // WIDTH)
    masks = [(1 << min(WIDTH, n_tasks - g * WIDTH)) - 1 for g in range(groups)]
    vectors = _features_as_lanes if layout.registers else _tasks_as_lanes
    return LaneTasks(
        layout,
        vectors(np.asarray(tasks.train_x)),
        _tasks_as_lanes(np.asarray(tasks.train_y)),
        vectors(np.asarray(tasks.valid_x)),
        _tasks_as_lanes(np.asarray(tasks.valid_y)),
        np.ascontiguousarray(tasks.order, np.int64),
        np.asarray(tasks.ids)[_tasks_of_lanes(n_tasks)].astype(np.uint32),
        np.array(masks, np.int64),
        n_tasks,
        tasks.loss == "accuracy",
        tasks.vector_classes,
    )


def _tasks_of_lanes(n_tasks: int) -> np.ndarray:
    """`[G * 16]` which task each lane holds; the last group is filled up with its first task."""
    lane = np.arange(-(-n_tasks // WIDTH) * WIDTH)
    return np.where(lane < n_tasks, lane, lane // WIDTH * WIDTH)


def _tasks_as_lanes(values: np.ndarray) -> np.ndarray:
    """`[T, ...]` to `[G, ..., 16]`."""
    lane = _tasks_of_lanes(len(values))
    out = aligned((len(lane) // WIDTH, *values.shape[1:], WIDTH))
    for g in range(len(out)):
        out[g] = np.moveaxis(values[lane[g * WIDTH : (g + 1) * WIDTH]], 0, -1)
    return out


def _features_as_lanes(values: np.ndarray) -> np.ndarray:
    """`[T, N, F]` to `[G, N, min(T, 16), 16 R]`, filled up with zeros."""
    n_tasks, examples, features = values.shape
    out = aligned((-(-n_tasks // WIDTH), examples, min(n_tasks, WIDTH), -(-features // WIDTH) * WIDTH))
    out[:] = 0
    for g in range(len(out)):
        some = values[g * WIDTH : (g + 1) * WIDTH]
        out[g, :, : len(some), :features] = np.moveaxis(some, 0, 1)
    return out


# ---------------------------------------------------------------------------------------------- memory


def into_lanes(values: Sequence[np.ndarray], layout: Layout, out: np.ndarray) -> None:
    """Writes memory as laid out.

    Args:
      values: `[T, S]`, `[T, V, F]`, `[T, M, F, F]`.
      layout: which is followed.
      out: float32 `[G, numbers, 16]`, written from the first number on; lanes without a task are left as they are.
    """
    for part, place in zip(values, _parts(out, values, layout), strict=True):
        for g in range(len(out)):
            some = np.moveaxis(part[g * WIDTH : (g + 1) * WIDTH], 0, -1)
            place[g, ..., : some.shape[-1]] = some


def out_of_lanes(laid_out: np.ndarray, like: Sequence[np.ndarray], layout: Layout) -> tuple[np.ndarray, ...]:
    """Memory by kind, `[T, S]`, `[T, V, F]`, `[T, M, F, F]`, each of the shape of one in `like`."""
    out = []
    for part, place in zip(like, _parts(laid_out, like, layout), strict=True):
        by_task = np.moveaxis(place, -1, 1).reshape(len(place) * WIDTH, *part.shape[1:])
        out.append(np.ascontiguousarray(by_task[: len(part)]))
    return tuple(out)


def _parts(laid_out: np.ndarray, like: Sequence[np.ndarray], layout: Layout) -> list[np.ndarray]:
    """Views of laid-out memory `[G, numbers, 16]` as `[G, S, 16]`, `[G, V, F, 16]`, `[G, M, F, F, 16]`: tasks last."""
    groups, flat, at, out = len(laid_out), laid_out.reshape(len(laid_out), -1), 0, []
    features, lanes = layout.features, layout.registers * WIDTH
    for kind, part in enumerate(like):
        count = part.shape[1]
        end = at + count * layout.value_numbers()[kind] * WIDTH
        here = flat[:, at:end]
        if kind == 0 or not lanes:
            view = here.reshape(groups, *part.shape[1:], WIDTH)
        elif kind == 1:
            view = np.moveaxis(here.reshape(groups, count, WIDTH, lanes)[..., :features], 2, -1)
        else:  # [G, M, task, column, row]
            view = here.reshape(groups, count, WIDTH, features, lanes)[..., :features].transpose(0, 1, 4, 3, 2)
        out.append(view)
        at = end
    return out


def aligned(shape: Sequence[int]) -> np.ndarray:
    """Float32 that begin at a multiple of 64 bytes."""
    n = int(np.prod(shape))
    raw = np.empty(n + WIDTH, np.float32)
    start = (-raw.ctypes.data % 64) // 4
    return raw[start : start + n].reshape(shape)
