"""Searches under way: what groups of islands do while a device works."""

import jax
import numpy as np
import pytest

from tests.spaces import DEMO
from zero_jax import Evaluator, RegularizedEvolution
from zero_jax.evaluation import KnownForms, Probe, TrainBudget
from zero_jax.run.presets import PRESETS
from zero_jax.run.trial import Terms, Trial
from zero_jax.search import NicheSearch
from zero_jax.tasks import synthetic

TASKS = synthetic.linear(3, features=4, train=20, valid=10)


class Watched(RegularizedEvolution):
    """Notes what the searcher asks for and learns, and when a device begins and ends."""

    def ask(self, state):
        NOTES.append("ask")
        return super().ask(state)

    def tell(self, state, candidates, scores):
        NOTES.append("tell")
        TOLD.append((state, candidates, scores))
        return super().tell(state, candidates, scores)


NOTES: list[str] = []
TOLD: list[tuple] = []


def trial(groups, **more):
    NOTES.clear()
    searcher = Watched(DEMO, islands=2, population=40, tournament=5, cohort=20)
    return Trial(1, searcher, 7, [Evaluator(TASKS, ops=DEMO.ops, **more)], Terms(groups=groups))


def test_one_group_waits_for_its_own_results():
    one = trial(1)
    for _ in range(3):
        one.evaluate_cohort()
    assert NOTES == ["ask", "tell"] * 3
    assert one.evaluations == 80 + 40 + 40


def test_with_two_groups_a_cohort_is_always_under_way_while_the_host_works():
    two = trial(2)
    for _ in range(4):
        two.evaluate_cohort()
    # After the first cohort of each they wait for each other, so that a checkpoint can be written.
    assert NOTES == ["ask", "ask", "tell", "ask", "tell", "tell", "ask", "ask", "tell"]
    for _ in range(3):
        two.evaluate_cohort()
    assert NOTES[9:] == ["ask", "tell"] * 3
    assert two.evaluations == 160 + 5 * 40
    assert two.fitness.shape == (4, 40)
    first, second = two.states
    assert (first.programs.code != second.programs.code).any()


def test_who_is_in_the_hall_of_fame_descends_from_its_parents():
    for groups, more in ((1, {}), (2, {"stages": (TrainBudget(1.0), KnownForms(), Probe(5))})):
        one, checked = trial(groups, **more), 0
        for _ in range(12 * groups):
            known = {id(entry) for entry in one.entries()}
            one.evaluate_cohort()
            asked, candidates, scores = TOLD.pop()
            form, fitness = candidates.forms.programs, scores.combined
            for entry in (entry for entry in one.entries() if id(entry) not in known):
                same = (form.code == entry.program.code).all((1, 2)) & (form.data == entry.program.data).all((1, 2))
                row = np.flatnonzero(same)[0]
                assert entry.fitness == fitness[row]
                if asked.evaluations == 0:
                    assert (entry.line, entry.births, entry.evaluations) == (None, 0, 80)
                    continue
                parent = asked.parents[row]
                assert entry.line is asked.lines.ancestors[parent]
                assert entry.births == asked.lines.births[parent] + 1
                assert entry.evaluations == asked.evaluations + len(candidates)
                checked += 1
        assert checked > 10


@pytest.mark.slow
def test_what_groups_find_does_not_depend_on_executor_devices_or_memory():
    trials = []
    for more in (
        {"executor": "xla"},
        {"executor": "xla", "devices": jax.devices()},
        {"executor": "xla", "stages": ()},
        {"executor": "xla", "threads": 1},
    ):
        two = trial(2, **more)
        for _ in range(6):
            two.evaluate_cohort()
        trials.append(two)
    for other in trials[1:]:
        for a, b in zip(trials[0].states, other.states, strict=True):
            np.testing.assert_array_equal(a.programs.code, b.programs.code)
            np.testing.assert_array_equal(a.programs.data, b.programs.data)
            np.testing.assert_array_equal(a.fitness, b.fitness)
    assert len(np.unique(trials[0].fitness)) > 10


@pytest.mark.parametrize("fidelity", [((1.0, 1.0),), ((0.5, 1.0),)])
def test_the_best_of_each_niche_is_a_candidate_once_it_is_evaluated_in_full(fidelity):
    space = PRESETS["teacher"][1].searcher.space
    searcher = NicheSearch(space, niches=20, niche_size=10, children=30, fidelity=fidelity)
    one = Trial(1, searcher, 7, [Evaluator(TASKS, ops=space.ops)], Terms())
    for _ in range(8):
        one.evaluate_cohort()
    state = one.states[0]
    of_niches = {float(fitness) for fitness in state.champion_fitness if fitness > 0}
    candidates = [entry.fitness for entry in one.candidates(1000)]
    assert len(of_niches) > 10
    assert candidates == sorted(candidates, reverse=True)
    assert of_niches.issubset(candidates) == (fidelity == ((1.0, 1.0),))
    assert [entry.fitness for entry in one.candidates(3)] == candidates[:3]
