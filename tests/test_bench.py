"""`zero-jax bench`: cycles and what a matrix needs at least, the table, and machines of other kinds."""

import os
import subprocess
import sys

import pytest

from zero_jax.cli import main
from zero_jax.use import bench

QUICK = bench.Effort(0.01, (40, 10))


def test_cycles_are_multiply_adds_of_sixteen_at_the_measured_rate():
    measured = bench.network(4, 10, effort=QUICK)
    seconds = 1 / (measured.programs_per_second * 50)
    assert measured.cycles == pytest.approx(bench._peak(1) * 1e9 / 32 * seconds)
    assert measured.least_cycles == pytest.approx(((40 * 32 + 10 * 16) / 50, (40 * 80 + 10 * 40) / 50))
    assert not measured.features_as_lanes
    assert 0 < measured.least_cycles[0] < measured.cycles


def test_the_table_has_a_line_for_each_number_of_tasks_and_the_machine(capsys):
    assert main(["bench", "--features", "4", "--seconds", "0.001"]) == 0
    *_, head, demo, first, fours, sixteen, many, plain, _, _, machine = capsys.readouterr().out.splitlines()
    assert head.split()[:5] == ["what", "F", "tasks", "threads", "executor"]
    assert demo.split()[:3] == ["demo", "4", "10"]
    assert [line.split()[2] for line in (first, fours, sixteen, many, plain)] == ["10", "4", "16", "45", "10"]
    assert "fused" in first
    assert "fused" not in plain
    least = [int(line.split()[-4].replace(",", "")) for line in (first, sixteen, many)]  # with tasks as lanes
    assert least[0] == least[1]
    assert least[2] == pytest.approx(3 * least[0], abs=2)
    assert bench.vectors() in machine


@pytest.mark.slow
def test_a_machine_without_wide_vectors_gives_the_same_numbers_and_says_what_it_uses(tmp_path):
    code = """
from zero_jax import evaluate, library
from zero_jax.tasks import synthetic
from zero_jax.use import bench
tasks = synthetic.linear(3, train=20, valid=10)
print(bench.vectors(), *evaluate(library.program("linear"), tasks, executor="simd").fitness[0])
"""
    out = []
    for more in ({}, {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path)}):
        run = subprocess.run(
            [sys.executable, "-c", code], env=os.environ | more, capture_output=True, text=True, check=True
        )
        name, *fitness = run.stdout.split()
        out.append((name, [float(one) for one in fitness]))
    assert out[1][0] in ("SSE2", "NEON", "LLVM's")
    assert out[1][1] == pytest.approx(out[0][1], abs=1e-5)
