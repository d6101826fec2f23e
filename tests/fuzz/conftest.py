"""The fixture that runs inputs of one kind through what reads them, counts them, and watches the clock."""

import pytest

from tests.fuzz import runs
from tests.fuzz.fuzzing import Fuzzer


@pytest.fixture
def fuzz(request, record_property, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Fuzzer(60 * request.config.getoption("--fuzz-minutes"), record_property)


@pytest.fixture(scope="session")
def runs_to_damage(tmp_path_factory):
    return runs.made(tmp_path_factory.mktemp("runs"))
