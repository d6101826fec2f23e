"""Strictness that users' code may turn on, and several CPU devices."""

import os

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import hypothesis
import jax
import pytest

hypothesis.settings.register_profile("default", deadline=None, derandomize=True)
hypothesis.settings.load_profile("default")

STRICT = {"jax_numpy_rank_promotion": "raise", "jax_numpy_dtype_promotion": "strict"}


@pytest.fixture(scope="module", autouse=True)
def strict():
    """For the tests of this folder; other people's code, in README's examples, need not be so strict."""
    before = {name: getattr(jax.config, name) for name in STRICT}
    for name, value in STRICT.items():
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def pytest_addoption(parser):
    parser.addoption("--fuzz-minutes", type=float, default=0, help="how long each kind of fuzzing goes on at least")


def pytest_terminal_summary(terminalreporter):
    """What was fuzzed, also where workers of xdist did it."""
    for report in terminalreporter.stats.get("passed", []) + terminalreporter.stats.get("failed", []):
        for name, value in getattr(report, "user_properties", ()):
            if name == "fuzz":
                terminalreporter.write_line(value)


def pytest_collection_modifyitems(items):
    """Fast tests first."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)
