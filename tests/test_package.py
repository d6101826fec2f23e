"""What importing costs, and what the package says about itself."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def python(code):
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    return result.stdout, result.stderr


def test_importing_prints_nothing_starts_no_device_and_is_quick():
    code = (
        "import time, jax; began = time.process_time(); import zero_jax; took = time.process_time() - began\n"
        "from jax._src import xla_bridge; assert not xla_bridge._backends, 'a device was started'\n"
        "assert took < 1, f'importing took {took:.2f} s of a core on top of jax'"
    )
    assert python(code) == ("", "")


def test_importing_leaves_heavy_packages_alone():
    heavy = (
        "('sklearn', 'pandas', 'matplotlib', 'tyro', 'scipy.stats', 'tensorflow_datasets', 'optax', 'optuna', 'ray', "
        "'tensorboardX')"
    )
    assert python(f"import sys, zero_jax; print([m for m in {heavy} if m in sys.modules])")[0] == "[]\n"


def test_every_public_name_is_documented():
    import zero_jax

    for name in zero_jax.__all__:
        assert getattr(zero_jax, name).__doc__, name


def test_no_file_grows_too_long():
    for path in (*ROOT.glob("zero_jax/**/*.py"), *ROOT.glob("tests/*.py")):
        assert len(path.read_text().splitlines()) <= 500, path


def test_only_the_command_line_prints():
    for path in ROOT.glob("zero_jax/**/*.py"):
        if path.parent.name != "cli":
            assert not re.search(r"^\s*print\(", path.read_text(), re.MULTILINE), path


def test_imports_run_one_way():
    """ops <- programs <- (listing, library, tasks, dataflow) <- executors, search <- experiment <- cli."""
    rank = {
        "ops": 0, "bounds": 0, "given": 0, "instructions": 0, "files": 0, "checked": 0, "compiled": 0, "parallel": 0, "foreign": 0, "schemas": 0, "stopping": 0, "programs": 1, "listing": 2, "tasks": 2, "dataflow": 2,
        "canonical": 3, "library": 3, "baselines": 3, "executors": 4, "search": 4, "cost": 4, "hurdles": 4, "cache": 1, "identity": 3,
        "hall": 5, "runs": 5, "tensorboard": 5, "evaluator": 5, "settings": 6, "tuning": 6, "strands": 6, "progress": 7,
        "cautions": 7, "runner": 7, "experiment": 8, "presets": 8, "forecast": 8, "cluster": 9, "report": 9, "bench": 9, "cli": 10, "__main__": 11,
    }  # fmt: skip
    for path in ROOT.glob("zero_jax/**/*.py"):
        name = path.relative_to(ROOT / "zero_jax").parts[0].removesuffix(".py")
        if name == "__init__":
            continue
        found = re.findall(r"^(?:from zero_jax\.?(\w*)|import zero_jax\.(\w+))", path.read_text(), re.MULTILINE)
        for module in filter(None, (a or b for a, b in found)):
            assert rank[module] <= rank[name], f"{path} imports {module}"
            assert {module, name} != {"search", "executors"}, path
