"""What a search will take, told before it starts."""

import time
from typing import NamedTuple

import numpy as np

from zero_jax import library, parallel
from zero_jax.evaluator import Evaluator
from zero_jax.executors import batches, contract
from zero_jax.executors.choice import choose, pallas_bytes
from zero_jax.experiment import Experiment
from zero_jax.tasks import Tasks

LONG = 1_000_000_000
"""A search is worth a forecast if a generation sees so many training examples, some seconds' worth."""

_SHARE = 16
"""The forecast measures on this part of the examples."""


class Forecast(NamedTuple):
    """What a search will take.

    Attributes:
      programs: in a generation: I * P.
      examples: that these see in training, if none stops early and none is known already.
      seconds: for a generation, as if each of its programs were the library's 2-layer network.
      bytes: of tasks, programs and their memories.
      executor: which will run.
    """

    programs: int
    examples: int
    seconds: float
    bytes: int
    executor: str


def is_long(experiment: Experiment) -> bool:
    """Whether a generation takes so long that a forecast is in place."""
    return _examples(experiment) >= LONG


def forecast(experiment: Experiment) -> Forecast:
    """Measures the library's network on few examples of the right shape.

    Raises:
      ValueError: as `evaluate`.
    """
    wanted = experiment.search_tasks
    sizes = (wanted.tasks, wanted.features, max(1, wanted.train // _SHARE), max(1, wanted.valid // _SHARE))
    small = _random_tasks(*sizes, wanted.epochs)
    whole = _random_tasks(wanted.tasks, wanted.features, wanted.train, wanted.valid, wanted.epochs)
    program = library.program("network", learning_rate=0.001)
    memory = experiment.space.memory
    executor = choose(experiment.executor, memory, whole, experiment.max_bytes)
    evaluator = Evaluator(small, executor=executor, remember=0, threads=experiment.threads or None)
    batch = 32 * parallel.cores() if batches.platform() == "cpu" else 1024
    programs = program[np.zeros(batch, int)]
    programs.data[:, 0, 0] *= 1 + np.arange(batch) / 1e6  # all different, or they would be trained once
    evaluator(programs)  # compiles
    began = time.perf_counter()
    evaluator(programs)
    rate = batch / (time.perf_counter() - began)
    count = experiment.islands * experiment.population
    share = (wanted.train + wanted.valid) / (sizes[2] + sizes[3])
    used = sum(part.nbytes for part in (whole.train_x, whole.valid_x)) + _program_bytes(experiment, executor, whole)
    return Forecast(count, _examples(experiment), count * share / rate, used, executor)


def _examples(experiment: Experiment) -> int:
    wanted = experiment.search_tasks
    return experiment.islands * experiment.population * wanted.tasks * wanted.train * wanted.epochs


def _random_tasks(tasks: int, features: int, train: int, valid: int, epochs: int) -> Tasks:
    x = np.random.default_rng(0).standard_normal((tasks, train + valid, features), np.float32)
    y = (x[..., 0] > 0).astype(np.float32)
    return Tasks(x[:, :train], y[:, :train], x[:, train:], y[:, train:], "accuracy", epochs)


def _program_bytes(experiment: Experiment, executor: str, tasks: Tasks) -> int:
    """Of all programs as arrays, and of the memories of those that are trained at a time."""
    memory, slots = experiment.space.memory, sum(experiment.space.capacity)
    count = experiment.islands * experiment.population
    arrays = 4 * count * (slots * 28 + 12)  # the population, a cohort, its canonical form, and in blocks
    if executor == "pallas":
        return arrays + min(experiment.max_bytes, count * pallas_bytes(memory, tasks))
    if executor == "simd":
        from zero_jax.executors import simd  # only where there is Numba

        program, lanes = simd.bytes_needed(memory, tasks)
        return arrays + lanes + (experiment.threads or parallel.cores()) * program
    need = batches.program_bytes(memory, contract.op_sets(experiment.space.ops, memory), tasks)
    return arrays + need * batches.block_width(need, experiment.max_bytes)
