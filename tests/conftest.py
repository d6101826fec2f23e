"""Strictness that users' code may turn on, several CPU devices, and XLA that compiles quickly, once for all runs."""

import os
import shutil

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import hypothesis
import jax
import pytest

pytest.register_assert_rewrite("tests.helpers", "tests.damage", "tests.oracle")

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


@pytest.fixture(autouse=True)
def optimization(request, monkeypatch):
    """XLA compiles twice as fast where it does not optimise. It does, as for users, in slow tests, whose loops are long,
    and in those marked `optimized`, which ask for exact numbers.
    """
    quick = not any(request.node.get_closest_marker(name) for name in ("slow", "optimized"))
    jax.config.update("jax_disable_most_optimizations", quick)
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", str(quick).lower())


@pytest.fixture(scope="module", autouse=True)
def registry():
    """Searchers that a file's tests register, those of an experiment they import among them, are gone after it."""
    from zero_jax.search import SEARCHERS

    before = dict(SEARCHERS)
    yield
    SEARCHERS.clear()
    SEARCHERS.update(before)


@pytest.fixture(scope="session")
def ended(tmp_path_factory):
    """A run that has ended; tests that change its files copy its folder."""
    from tests.helpers import QUICK
    from zero_jax.run.api import run

    config = QUICK.replace(
        islands=2,
        train_steps=150_000,
        parallel_trials=1,
        baselines=("linear",),
        out=str(tmp_path_factory.mktemp("runs")),
    )
    return run(config)


@pytest.fixture
def folder(ended, tmp_path):
    """A copy of its folder that can be changed, with a hall of fame and a lineage."""
    from tests.helpers import write_best

    copy = tmp_path / "<run> & co"
    shutil.copytree(ended.folder, copy)
    write_best(copy)
    return copy


def pytest_configure(config):
    """XLA keeps what it compiled in pytest's cache folder (`pytest --cache-clear` empties it)."""
    if cache := getattr(config, "cache", None):
        folder = str(cache.mkdir("jax"))
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
        # Processes that tests start read it. They do not write to it: JAX does not write atomically, and some are killed.
        os.environ |= {"JAX_COMPILATION_CACHE_DIR": folder, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "1e9"}


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
