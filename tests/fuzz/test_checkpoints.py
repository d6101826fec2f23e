"""Checkpoints: damaged, swapped, or holding something else; in a process that may end at it."""

import functools

import pytest

from tests.fuzz import checkpoints
from tests.fuzz.fuzzing import Process


@pytest.mark.slow
def test_a_run_goes_on_as_it_was_or_not_at_all(fuzz, runs_to_damage, tmp_path):
    attempt = functools.partial(checkpoints.attempt, runs_to_damage, tmp_path)
    with Process() as process:
        fuzz("checkpoints", 250, attempt, process)
