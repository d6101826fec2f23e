"""Carries the kernel by NVIDIA Warp: compiled for the GPU at hand, or run on a CPU with real blocks and barriers.

On a CPU, the threads of a block are fibers: one runs until it comes to a barrier, then the next.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import warp as wp

from zero_jax.executors.gpu import source
from zero_jax.executors.gpu.layout import Shape

wp.config.log_level = max(wp.config.log_level, wp.LOG_WARNING)  # or Warp greets whoever imports it
wp.config.enable_cpu_blocks = True  # else a CPU runs blocks of one thread, whatever is asked for

_I1, _I2, _I3 = (wp.array(dtype=wp.int32, ndim=rank) for rank in (1, 2, 3))
_F1, _F2, _F3, _F4 = (wp.array(dtype=wp.float32, ndim=rank) for rank in (1, 2, 3, 4))
_U1 = wp.array(dtype=wp.uint32)

_BARRIER = """
#if defined(__CUDA_ARCH__)
#define BARRIER() (THREADS == 32 ? __syncwarp() : __syncthreads())
#else
#define BARRIER() WP_TILE_SYNC()
#endif
"""


def text(shape: Shape) -> str:
    """The kernel's text as the body of a native function of Warp, whose arrays have a `_` behind their names."""
    pointers = "".join(
        f"{'const ' * (name in source.ARGUMENTS)}{kind} *const {name} = {name}_.data; (void){name};\n"
        for name, kind in (source.ARGUMENTS | source.RESULTS).items()
    )
    return f"{_BARRIER}{pointers}float *const shared = shared_.data.ptr;\n{source.body(shape)}"


@functools.lru_cache(maxsize=64)
def kernel(shape: Shape) -> wp.Kernel:
    """The kernel for one shape, in a module of its own; it is launched with `(blocks, threads)`."""
    words, bounds = shape.shared_words, (shape.threads, shape.blocks)

    # Both must name all arrays of `source`, in that order: Warp reads their text.
    # fmt: off
    @wp.func_native(text(shape))
    def train(
        sizes_: _I1, seed_: _U1, limit_: _F1, rows_: _I3, lengths_: _I2, order_: _I2, x_: _F4, y_: _F3,
        ids_: _I1, before_: _F2, fitness_: _F2, steps_: _I2, errors_: _F3, after_: _F2,
        shared_: wp.tile(dtype=wp.float32, shape=(words,)), block: int, thread: int,
    ): ...

    @wp.kernel(module="unique", enable_backward=False, grid_stride=False, launch_bounds=bounds)
    def zero_jax(
        sizes: _I1, seed: _U1, limit: _F1, rows: _I3, lengths: _I2, order: _I2, x: _F4, y: _F3,
        ids: _I1, before: _F2, fitness: _F2, steps: _I2, errors: _F3, after: _F2,
    ):
        block, thread = wp.tid()
        shared = wp.tile_zeros(shape=(words,), dtype=wp.float32, storage="shared")
        train(
            sizes, seed, limit, rows, lengths, order, x, y, ids, before, fitness, steps, errors, after,
            shared, block, thread,
        )
    # fmt: on

    zero_jax.module.options["block_dim"] = shape.threads
    return zero_jax


def call(
    shape: Shape, blocks: int, given: Mapping[str, jax.Array], results: Mapping[str, tuple[int, ...]]
) -> dict[str, jax.Array]:
    """What the kernel fills, by name.

    Args:
      shape: the kernel's.
      blocks: how many run.
      given: the arrays of `source.ARGUMENTS`.
      results: the shapes of those of `source.RESULTS`.
    """
    run: Any = wp.jax_kernel(
        kernel(shape), len(results), "sequential", (blocks, shape.threads), dict(results), block_dim=shape.threads
    )
    return dict(zip(source.RESULTS, run(*(given[name] for name in source.ARGUMENTS)), strict=True))
