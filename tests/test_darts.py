"""Relaxed programs: their gradient, and what becomes of it."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zero_jax import Component, Evaluator, Scores, SearchSpace, library
from zero_jax.search import Darts, SuccessiveHalving
from zero_jax.search.operators.mixture import LARGEST, Mixture
from zero_jax.support.codec import encode
from zero_jax.tasks import Tasks, synthetic

SPACE = SearchSpace(
    (4, 3, 1),
    Component(["SCALAR_CONST_SET", "VECTOR_GAUSSIAN_SET"], (2, 2, 2)),
    Component(["VECTOR_INNER_PRODUCT"], (1, 1, 1)),
    Component(["SCALAR_DIFF", "SCALAR_PRODUCT", "SCALAR_VECTOR_PRODUCT", "VECTOR_SUM"], (4, 4, 4)),
)
TASKS = synthetic.linear(2, features=3, train=30, valid=10)
DARTS = Darts(SPACE, cohort=2, updates=60, train_examples=8, valid_examples=5)
MIXTURE, ONE, SEED = Mixture(SPACE, 8, 5), jnp.float32(1.0), np.uint32(0)


def gone_on(search, state, steps, evaluator):
    for _ in range(steps):
        state, candidates = search.ask(state)
        state = search.tell(state, candidates, evaluator(candidates))
    return state


@jax.jit
def fitness(slots, temperature=ONE):
    return MIXTURE.fitness(slots, temperature, TASKS, SEED)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_the_gradient_agrees_with_finite_differences(seed):
    """Along the gradient and along a random direction that is not at right angles to it."""
    slots = MIXTURE.slots(jax.random.key(seed), 0.5)
    gradient = jax.grad(fitness)(slots)
    leaves, structure = jax.tree.flatten(slots)
    slopes = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(gradient)]
    size = np.sqrt(sum((leaf**2).sum() for leaf in slopes))
    rng = np.random.default_rng(seed)
    for share in (1.0, 0.5):
        way = [share * leaf / size + (1 - share) * rng.normal(size=leaf.shape) / 10 for leaf in slopes]
        expected = sum((slope * part).sum() for slope, part in zip(slopes, way, strict=True))

        def along(step, way=way):
            moved = [leaf + (step * part).astype(np.float32) for leaf, part in zip(leaves, way, strict=True)]
            return float(fitness(jax.tree.unflatten(structure, moved)))

        assert abs(expected) > 1e-3
        assert (along(5e-3) - along(-5e-3)) / 1e-2 == pytest.approx(expected, rel=0.05)


def certain(program, mixture, sharpness=200.0):
    """Slots that leave no doubt about a program."""
    code, data = np.asarray(program.code)[0], np.asarray(program.data)[0]
    slots = jax.tree.map(np.zeros_like, jax.device_get(mixture.slots(jax.random.key(0), 1.0)))
    for slot, (op, *fields) in enumerate(code.tolist()):
        slots.op[slot, op] = sharpness
        slots.constants[slot, op] = data[slot]
        for name, address in zip(("in1", "in2", "out"), fields, strict=True):
            for logits in slots.addresses[name].values():
                if address < logits.shape[1]:
                    logits[slot, address] = sharpness
    return slots


@pytest.mark.slow
@pytest.mark.parametrize("name", ["linear", "network"])
def test_a_mixture_without_doubt_is_the_program(name):
    program = library.program(name)
    tasks = synthetic.teacher(3, features=4, train=20, valid=10)
    space = SearchSpace(
        program.memory,
        *(Component(ops, (size,) * 3) for ops, size in zip(_ops(program), program.capacity, strict=True)),
    )
    mixture = Mixture(space, 20, 10)
    slots = certain(program, mixture)
    assert mixture.programs(jax.tree.map(lambda leaf: leaf[None], slots)).listing() == program.listing()
    expected = Evaluator(tasks)(program).combined[0]
    assert float(mixture.fitness(slots, ONE, tasks, SEED)) == pytest.approx(expected, abs=1e-5)


def _ops(program):
    starts, code = program.starts, np.asarray(program.code)[0, :, 0]
    return [sorted(set(code[a:b].tolist())) for a, b in itertools.pairwise(starts)]


@pytest.mark.slow
def test_relaxed_fitness_rises_and_the_best_program_is_judged_like_any_other():
    evaluator, state = Evaluator(TASKS), DARTS.init(0)
    before = [float(fitness(jax.tree.map(lambda leaf, i=i: leaf[i], DARTS.slots(state)))) for i in range(2)]
    after = gone_on(DARTS, state, 60, evaluator)
    end = jnp.float32(DARTS.temperature_at(59))
    later = [float(fitness(jax.tree.map(lambda leaf, i=i: leaf[i], DARTS.slots(after)), end)) for i in range(2)]
    assert max(later) > max(before) + 0.005
    assert after.best.fitness == pytest.approx(Evaluator(TASKS)(after.best.program).combined[0])
    assert not DARTS.exhausted(state)
    assert DARTS.exhausted(after)


@pytest.mark.slow
def test_what_diverges_has_finite_gradients():
    slots = jax.tree.map(lambda leaf: 100 * leaf, MIXTURE.slots(jax.random.key(1), 1.0))
    gradient = DARTS.functions.gradient(jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), slots), ONE, TASKS, SEED)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert LARGEST == 1e3


def test_label_and_features_are_not_written():
    slots = MIXTURE.slots(jax.random.key(3), 5.0)
    code = np.asarray(MIXTURE.programs(jax.tree.map(lambda leaf: leaf[None], slots)).code)[0]
    writes = code[code[:, 0] > 0]
    assert (writes[:, 3] > 0).all()


@pytest.mark.slow
def test_it_goes_on_from_a_file_as_if_nothing_had_happened(tmp_path):
    evaluator = Evaluator(TASKS)
    state = gone_on(DARTS, DARTS.init(0), 3, evaluator)
    DARTS.save(state, tmp_path / "state.npz")
    again, at_once = (gone_on(DARTS, one, 2, evaluator) for one in (DARTS.load(tmp_path / "state.npz"), state))
    np.testing.assert_equal(encode(again), encode(at_once))
    other = dataclasses.replace(DARTS, cohort=3)
    with pytest.raises(ValueError, match="other sizes"):
        other.check(state)


def _signs(y):
    return (np.asarray(y) > 0).astype(np.float32)


CLASSES = Tasks(TASKS.train_x, _signs(TASKS.train_y), TASKS.valid_x, _signs(TASKS.valid_y), loss="accuracy")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DARTS.check_work(CLASSES, ()), "the accuracy loss has none: take regression tasks, or another method"),
        (lambda: Evaluator(CLASSES)(DARTS.ask(DARTS.init(0))[1]), "take regression tasks"),
        (lambda: DARTS.tell(*DARTS.ask(DARTS.init(0)), Scores.of(np.zeros(2))), "evaluate its candidates with an Eval"),
        (lambda: Darts(SPACE, train_examples=0), "train_examples must be from 1"),
        (lambda: Darts(SPACE, final_temperature=0.0), "final_temperature must be above 0"),
        (lambda: SuccessiveHalving(SPACE, proposer="darts"), "'darts' asks for more than fitness on all of the work"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
