"""Forecasts how long a search takes and how much memory, before it starts."""

import sys
import time
from typing import NamedTuple

import numpy as np

from zero_jax.evaluation import Evaluator
from zero_jax.executors import devices, stream
from zero_jax.executors.base import Options, Request
from zero_jax.executors.registry import choose
from zero_jax.program import library
from zero_jax.run import build
from zero_jax.run.config import RunConfig
from zero_jax.run.searchers import generation
from zero_jax.support import threads as parallel
from zero_jax.tasks import Tasks

LONG = 1_000_000_000
"""A search is worth a forecast if a generation sees this many training examples, some seconds' worth."""

_SHARE = 16
"""The forecast measures on one example in this many."""


class Forecast(NamedTuple):
    """What a search takes.

    Attributes:
      programs: in a generation: I * P.
      examples: the examples that these see in training, if no run stops early and no program is known already.
      seconds: for a generation, as if each of its programs were the library's 2-layer network.
      bytes: the memory that this process has taken so far, plus that of programs and of training them.
      executor: the one that will run.
    """

    programs: int
    examples: int
    seconds: float
    bytes: int
    executor: str


def is_long(config: RunConfig) -> bool:
    """Whether a generation takes long enough for a forecast to be of use."""
    count = generation(config.searcher)
    return count * _examples(_largest(config)) >= LONG


def forecast(config: RunConfig) -> Forecast:
    """Measures the library's network on few examples of the right shape.

    Raises:
      ValueError: as `evaluate`.
    """
    whole = _largest(config)
    small = whole.shortened(*(max(1, x.shape[1] // _SHARE) for x in (whole.train_x, whole.valid_x)))
    program = library.program("network", learning_rate=0.001)
    space, threads = config.searcher.space, config.schedule.threads or None
    options = Options(ops=space.ops, max_bytes=config.evaluation.max_bytes, threads=threads)
    request = Request(space.memory, whole, options)
    executor = choose(config.evaluation.executor, request)
    evaluator = Evaluator(small, executor=executor.name, stages=(), threads=threads)
    batch = 32 * parallel.cores() if devices.platform() == "cpu" else 1024
    programs = program[np.zeros(batch, int)]
    programs.data[:, 0, 0] *= 1 + np.arange(batch) / 1e6  # all different, or they would be trained once
    evaluator(programs)  # compiles
    began = time.perf_counter()
    evaluator(programs)
    rate = batch / (time.perf_counter() - began)
    count = generation(config.searcher)
    share = stream.runs(whole) / stream.runs(small)
    arrays = 4 * count * (sum(space.capacity) * 28 + 12)  # the population, a cohort, its canonical form, and in blocks
    used = _process_bytes() + arrays + executor.bytes_in_use(request, count)
    return Forecast(count, count * _examples(whole), count * share / rate, used, executor.name)


def _largest(config: RunConfig) -> Tasks:
    """T_search; of several task variants, the one with most examples."""
    return max(build.variant_tasks(config), key=_examples)


def _examples(tasks: Tasks) -> int:
    """The training examples that one program sees."""
    return len(tasks) * int(tasks.order.size)


def _process_bytes() -> int:
    """The memory this process has taken so far, including the tasks; 0 where the system does not say."""
    if sys.platform == "win32":
        return 0
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
