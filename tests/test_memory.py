"""Compiled loops keep nothing that they are given, and draw what a generator would draw."""

import gc
import importlib
import os
import pkgutil
import sys
from pathlib import Path

import numpy as np
import pytest

import zero_jax
from tests.spaces import ALL_OPS, GENES, SMALL
from zero_jax.evaluation import KnownForms, Probe, Scores, TrainBudget
from zero_jax.evaluation.evaluator import Evaluator
from zero_jax.program.memory import Interface
from zero_jax.program.space import random_programs
from zero_jax.search import EfficientEvolution, Mutations, NicheSearch, RegularizedEvolution, mutate
from zero_jax.search.operators.mutation import TYPES
from zero_jax.support import compiled, threads
from zero_jax.tasks import synthetic

pytestmark = pytest.mark.skipif(not compiled.HAVE_NUMBA, reason="nothing is compiled without Numba")


def resident():
    """MiB."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def is_entry_point(value):
    return isinstance(getattr(value, "_cache", None), compiled._Cache)


def leaves(values):
    """The objects that calls are handed, but for plain numbers and None, which everyone shares."""
    for value in values:
        if isinstance(value, tuple):
            yield from leaves(value)
        if not isinstance(value, int | float | np.generic | None):
            yield value


def test_no_compiled_loop_keeps_what_it_is_given(monkeypatch):
    called, kept = set(), []

    def watched(loop):
        def call(*args):
            before = [sys.getrefcount(one) for one in leaves(args)]
            result = loop(*args)
            after = [sys.getrefcount(one) for one in leaves(args)]
            called.add(loop)
            if before != after:
                kept.append((loop.__name__, before, after))
            return result

        return call

    modules = [
        importlib.import_module(module.name)
        for module in pkgutil.walk_packages(zero_jax.__path__, "zero_jax.")
        if not module.name.startswith(("zero_jax.run.cluster", "zero_jax.report"))
    ]
    loops = set()
    for module in modules:
        for name, value in list(vars(module).items()):
            if is_entry_point(value):
                loops.add(value)
                monkeypatch.setattr(module, name, watched(value))

    tasks = synthetic.linear(3, train=20, valid=10)
    evaluator = Evaluator(tasks, threads=1, stages=(TrainBudget(2.0), KnownForms(), Probe(4)))
    for search in (
        RegularizedEvolution(SMALL, population=20, tournament=3, cohort=5),
        EfficientEvolution(SMALL, population=20, tournament=3, cohort=5),
        NicheSearch(GENES, niche_size=10, children=5),
    ):
        state = search.init(0)
        for _ in range(3):
            with threads.limited(1):  # two would hold the same arrays at a time
                state, candidates = search.ask(state)
            state = search.tell(state, candidates, evaluator(candidates))
    programs = random_programs(ALL_OPS, 20, np.random.default_rng(0))
    mutate(programs, ALL_OPS, Mutations(types=TYPES), np.random.default_rng(1))
    zero_jax.evaluate(programs, tasks, executor="simd", threads=1)
    importlib.import_module("zero_jax.program.canonical").live(programs)
    importlib.import_module("zero_jax.executors.fusion").fused(programs, Interface.scalar(programs.memory))
    memory = tuple(np.zeros(shape, np.float32) for shape in ((20, 3, 5), (20, 3, 4, 4), (20, 3, 3, 4, 4)))
    zero_jax.execute(programs, memory, "setup", executor="simd")
    importlib.import_module("zero_jax.executors.simd.peak").multiply_add(1)
    assert {loop.__name__ for loop in loops - called} == set()
    assert kept == []


@pytest.mark.slow
def test_memory_does_not_grow_with_cohorts_and_generators():
    search = RegularizedEvolution(SMALL, population=5, tournament=2, cohort=2)
    state, candidates = search.ask(search.init(0))
    programs = state.programs
    state = search.tell(state, candidates, Scores.of(np.zeros(5)))

    def cohorts(n):
        nonlocal state
        for i in range(n):
            state, children = search.ask(state)
            state = search.tell(state, children, Scores.of([0.0, i % 7 / 7]))

    def mutants(n):
        for i in range(n):
            mutate(programs, SMALL, Mutations(), np.random.default_rng(i))

    cohorts(500)
    mutants(500)
    before = resident()
    cohorts(20_000)
    after_cohorts = resident()
    mutants(20_000)
    assert after_cohorts < before * 1.02
    assert resident() < before * 1.02


@pytest.mark.parametrize("bits", [np.random.PCG64, np.random.MT19937, np.random.Philox, np.random.SFC64])
def test_loops_draw_what_the_generator_would_and_leave_it_where_it_would_be(bits):
    @compiled.entry_point
    def draw(address, uniforms, normals):
        rng = compiled.generator_at(address)
        for i in range(len(uniforms)):
            uniforms[i] = rng.random()
            normals[i] = rng.standard_normal()

    one, other = (np.random.Generator(bits(3)) for _ in range(2))
    uniforms, normals = np.zeros((2, 5000))
    draw(compiled.address_of(one), uniforms, normals)
    expected = np.array([[other.random(), other.standard_normal()] for _ in range(5000)]).T
    np.testing.assert_array_equal(uniforms, expected[0])
    np.testing.assert_allclose(normals, expected[1], rtol=1e-14)  # their tails call log, whose last bits differ
    assert one.random() == other.random()
    assert sys.getrefcount(one) == sys.getrefcount(other)
