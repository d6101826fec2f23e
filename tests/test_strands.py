"""Searches under way: what groups of islands do while a device works."""

import jax
import numpy as np

from tests.spaces import DEMO
from zero_jax import Evaluator, RegularizedEvolution
from zero_jax.strands import Strand
from zero_jax.tasks import synthetic

TASKS = synthetic.linear(3, features=4, train=20, valid=10)


class Watched(RegularizedEvolution):
    """Notes what is asked for and told, and when a device begins and ends."""

    def ask(self, state):
        NOTES.append("ask")
        return super().ask(state)

    def tell(self, state, programs, fitness):
        NOTES.append("tell")
        return super().tell(state, programs, fitness)


NOTES: list[str] = []


def strand(groups, **more):
    NOTES.clear()
    searcher = Watched(DEMO, islands=2, population=40, tournament=5, cohort=20)
    return Strand(1, searcher, 7, [Evaluator(TASKS, ops=DEMO.ops, **more)], "mean", 10**9, 2.0, groups)


def test_one_group_waits_for_its_own_results():
    one = strand(1)
    for _ in range(3):
        one.evaluate_cohort()
    assert NOTES == ["ask", "tell"] * 3
    assert one.evaluations == 80 + 40 + 40


def test_with_two_groups_a_cohort_is_always_under_way_while_the_host_works():
    two = strand(2)
    for _ in range(4):
        two.evaluate_cohort()
    assert NOTES == ["ask", "ask", "tell", "ask", "tell", "ask", "tell", "ask", "tell"]
    assert two.evaluations == 160 + 80
    assert two.fitness.shape == (4, 40)
    first, second = two.states
    assert (first.population.code != second.population.code).any()


def test_what_groups_find_does_not_depend_on_executor_devices_or_memory():
    found = []
    for more in (
        {"executor": "xla"},
        {"executor": "xla", "devices": jax.devices()},
        {"executor": "xla", "remember": 0},
        {"executor": "xla", "threads": 1},
    ):
        two = strand(2, **more)
        for _ in range(6):
            two.evaluate_cohort()
        found.append(two)
    for other in found[1:]:
        for a, b in zip(found[0].states, other.states, strict=True):
            np.testing.assert_array_equal(a.population.code, b.population.code)
            np.testing.assert_array_equal(a.population.data, b.population.data)
            np.testing.assert_array_equal(a.fitness, b.fitness)
    assert len(np.unique(found[0].fitness)) > 10
