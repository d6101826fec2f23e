"""Which program, and which settings, are best on a table."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zero_jax.use.choice import EPOCHS, best_settings

OTHERS = {"bias": (True, False), "multi_class": ("ovo", "ovr")}


@pytest.mark.parametrize("epochs", EPOCHS)
@pytest.mark.parametrize("bias", [True, False])
def test_the_best_settings_are_found(epochs, bias):
    def score(i, settings):
        return -abs(EPOCHS.index(epochs) - EPOCHS.index(settings["epochs"])) + (settings["bias"] == bias)

    (found,) = best_settings(1, score, OTHERS, None)
    assert found.settings == {"epochs": epochs, "bias": bias, "multi_class": "ovo"}
    assert found.score == 1


@given(st.lists(st.integers(0, 5), min_size=1, max_size=9), st.integers(0, 2**32))
def test_no_setting_is_judged_twice_and_the_best_judged_counts(worths, salt):
    judged = {}

    def score(i, settings):
        key = i, *settings.values()
        assert key not in judged
        judged[key] = worths[i] + hash((salt, key)) % 3
        return judged[key]

    found = best_settings(len(worths), score, OTHERS, None)
    assert [one.program for one in found] == list(range(len(worths)))
    for one in found:
        assert one.score == max(value for key, value in judged.items() if key[0] == one.program)
        assert judged[one.program, *one.settings.values()] == one.score


def test_a_deadline_leaves_programs_out_but_the_first():
    asked = []

    def score(i, settings):
        asked.append(i)
        time.sleep(0.01)
        return 0.0

    late = best_settings(5, score, OTHERS, time.monotonic() - 1)
    assert [one.program for one in late] == asked == [0]
