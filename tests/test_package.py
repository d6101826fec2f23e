"""What importing costs, what the package says about itself, and the rules that its code keeps."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.parametrize(("folder", "longest"), [("zero_jax", 400), ("tests", 500)])
def test_no_file_grows_too_long(folder, longest):
    for path in (ROOT / folder).rglob("*.py"):
        lines = len(path.read_text().splitlines())
        assert lines <= longest, path


COMPILED = {"compiled", "compiled_into_caller", "entry_point", "wp.func_native", "wp.kernel"}
"""Numba's and Warp's functions take arrays one by one; so do Pallas kernels."""


def test_functions_take_at_most_8_parameters():
    for path, tree in trees("zero_jax"):
        for node in ast.walk(tree):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or "pallas" in path.parts:
                continue
            if node.name == "__init__" and len(node.args.args) == 1:  # settings by name, as scikit-learn has them
                continue
            names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            decorators = {ast.unparse(decorator).split("(")[0] for decorator in node.decorator_list}
            if decorators.isdisjoint(COMPILED):
                assert len(names) - (names[:1] in (["self"], ["cls"])) <= 8, f"{path}: {node.name}"


def test_nothing_refers_to_documents_that_are_not_here():
    for folder in ("zero_jax", "tests", "experiments", "notebooks", "docs"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".md", ".ipynb") and path != Path(__file__):
                assert not re.search(r"\bSPEC\b", path.read_text()), path


def test_only_the_command_line_prints():
    for path in ROOT.glob("zero_jax/**/*.py"):
        if path.parent.name != "cli":
            assert not re.search(r"^\s*print\(", path.read_text(), re.MULTILINE), path


def test_imports_run_one_way():
    """As `pyproject.toml` says, whatever the form of the import."""
    # In a process of its own, since import-linter switches off the loggers of other packages.
    code = "import sys; from importlinter import cli; sys.exit(cli.lint_imports(no_cache=True, no_logo=True))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_rooms_are_all_that_stands_at_the_root():
    assert {path.name for path in (ROOT / "zero_jax").glob("*.py")} == {"__init__.py", "__main__.py"}


def trees(*folders):
    for folder in folders:
        for path in (ROOT / folder).rglob("*.py"):
            yield path.relative_to(ROOT), ast.parse(path.read_text())


def test_only_executors_know_executors_by_name():
    from zero_jax.executors.registry import EXECUTORS

    for path, tree in trees("zero_jax"):
        if "executors" in path.parts:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Compare | ast.match_case):
                constants = {leaf.value for leaf in ast.walk(node) if isinstance(leaf, ast.Constant)}
                assert constants.isdisjoint(EXECUTORS), f"{path}: {ast.unparse(node)}"


def test_test_modules_do_not_import_each_other():
    for path, tree in trees("tests"):
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                assert not node.module.startswith("tests.test_"), path
                assert node.module != "tests" or not any(a.name.startswith("test_") for a in node.names), path
