"""The example searcher of ARCHITECTURE.md: registered, run, saved and continued."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from tests.spaces import DEMO
from zero_jax import Candidates, Evaluator
from zero_jax.search import SEARCHERS, Best, Searcher, register
from zero_jax.support.codec import encode
from zero_jax.support.files import packed, unpacked
from zero_jax.tasks import synthetic

TASKS = synthetic.linear(3, features=4, train=20, valid=10)


@pytest.fixture(scope="module")
def climber(tmp_path_factory):
    """The class, as somebody would have it who copied it into a file."""
    text = (Path(__file__).parents[1] / "ARCHITECTURE.md").read_text()
    (source,) = re.findall(r"## A new searcher\n.*?```python\n(.*?)```", text, re.S)
    assert len(source.strip().splitlines()) <= 40
    names = {"__name__": "climber"}
    exec(compile(source, "climber.py", "exec"), names)
    yield SEARCHERS["hill_climber"]
    del SEARCHERS["hill_climber"]


def climbed(search, evaluator, state, cohorts):
    for _ in range(cohorts):
        state, candidates = search.ask(state)
        state = search.tell(state, candidates, evaluator(candidates))
    return state


def test_it_climbs_and_is_deterministic(climber):
    search = climber(DEMO, children=20)
    one, other = (climbed(search, Evaluator(TASKS), search.init(3), 30) for _ in range(2))
    np.testing.assert_equal(encode(one), encode(other))
    assert one.evaluations == 600
    best = search.best(one)
    assert isinstance(best, Best)
    assert best.fitness > climbed(search, Evaluator(TASKS), search.init(3), 1).best_fitness
    assert best.fitness == Evaluator(TASKS)(best.program).combined[0]


def test_it_goes_on_from_a_file_as_if_nothing_had_happened(climber, tmp_path):
    search, evaluator = climber(DEMO), Evaluator(TASKS)
    state = climbed(search, evaluator, search.init(0), 5)
    search.save(state, tmp_path / "state.npz")
    again = Evaluator(TASKS)
    again.restore(unpacked(packed(evaluator.tree())))
    resumed = climbed(search, again, search.load(tmp_path / "state.npz"), 5)
    np.testing.assert_equal(encode(resumed), encode(climbed(search, evaluator, state, 5)))
    assert again.counts == evaluator.counts


def test_a_damaged_state_is_refused(climber):
    search = climber(DEMO)
    tree = encode(climbed(search, Evaluator(TASKS), search.init(0), 2))
    with pytest.raises(ValueError, match=r"state.parent.capacity is \[1, 1, 1\], not \[10, 2, 8\]"):
        search.restored(tree | {"parent": tree["parent"] | {"capacity": [1, 1, 1]}})
    with pytest.raises(ValueError, match=r"state.fitness is 'high', not a finite number"):
        search.restored(tree | {"fitness": "high"})


def test_two_searchers_cannot_have_one_name(climber):
    with pytest.raises(ValueError, match=r"searcher 'hill_climber' exists already: climber.HillClimber"):

        @register("hill_climber")
        @dataclasses.dataclass(frozen=True)
        class Other(Searcher):
            pass


def test_a_searcher_may_ask_for_a_fidelity(climber):
    """A cohort on half of the tasks, then its best on all of them."""
    evaluator, search = Evaluator(TASKS), climber(DEMO, children=20)
    _, candidates = search.ask(search.init(0))
    part = dataclasses.replace(candidates, tasks_share=0.67)
    early = evaluator(part)
    assert early.fitness.shape == (20, 2)
    best = candidates.programs[int(early.combined.argmax())]
    np.testing.assert_array_equal(evaluator(Candidates.of(best)).fitness[0, :2], early.fitness[early.combined.argmax()])
