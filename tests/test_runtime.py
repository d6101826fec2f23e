"""What loops are compiled with: disk, locks, signals, and processes that fork."""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

import zero_jax
from zero_jax.support import compiled
from zero_jax.support.compiled import entry_point, on_compile

pytestmark = pytest.mark.skipif(not compiled.HAVE_NUMBA, reason="nothing is compiled without Numba")
ROOT = Path(zero_jax.__file__).parent.parent


def python(code, timeout=120, **env):
    """What a process says that runs this code."""
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=timeout, cwd=ROOT, env=os.environ | env
    )


CHILDREN = """
import hashlib
import numpy as np
from tests.spaces import ALL_OPS
from zero_jax.support import compiled
from zero_jax.program.space import random_programs
from zero_jax.search import Mutations, mutate
from zero_jax.search.operators.mutation import TYPES
from zero_jax.search.regularized_evolution import hold_tournaments

rng = np.random.default_rng(2)
children = mutate(random_programs(ALL_OPS, 300, rng), ALL_OPS, Mutations(types=TYPES), rng)
rows = hold_tournaments(rng.random((2, 50)), 5, 100, rng)
parts = [children.code, children.data, children.length, rows]
print(compiled.HAVE_NUMBA, hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest())
"""


@pytest.mark.slow
def test_with_the_compiler_switched_off_everything_works_and_children_are_the_same():
    off, on = python(CHILDREN, NUMBA_DISABLE_JIT="1"), python(CHILDREN)
    assert off.stdout.split()[0] == "False", off.stderr
    assert on.stdout.split()[0] == "True", on.stderr
    assert off.stdout.split()[1] == on.stdout.split()[1]
    command = "import sys; from zero_jax.cli import entry; sys.argv[1:] = {}; entry()"
    assert "evaluate" in python(command.format(["--help"]), NUMBA_DISABLE_JIT="1").stdout
    done = python(command.format(["evaluate", "linear", "--train", "100"]), NUMBA_DISABLE_JIT="1")
    assert done.returncode == 0, done.stderr
    assert "NUMBA_DISABLE_JIT" in done.stderr
    assert "mean fitness 0.63" in done.stdout


# ---------------------------------------------------------------------------------------------- machine code on disk


@pytest.fixture
def disk(tmp_path, monkeypatch):
    """A folder of its own for machine code, and for locks, and for what is said once in a process."""
    caching = pytest.importorskip("numba.core.caching")
    monkeypatch.setattr(caching.config, "CACHE_DIR", str(tmp_path / "code"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for name in ("_gave_up", "_said_uncached"):
        monkeypatch.setattr(compiled, name, threading.Event())
    return tmp_path


def double(x):
    return x + x


def loaded(disk):
    """A new dispatcher, as another process makes one; how often it compiles; and its results for two types."""
    loop, compilations = entry_point(double), []
    with on_compile(lambda: compilations.append(threading.get_ident())):
        results = loop(3), loop(1.5)
    assert results == (6, 3.0)
    assert [type(result) for result in results] == [int, float]
    return len(compilations)


def test_what_is_compiled_is_kept_and_a_callback_hears_of_it_only_once(disk):
    assert loaded(disk) == 2
    assert loaded(disk) == 0
    with on_compile(lambda: pytest.fail("nothing is compiled here")):
        pass
    assert entry_point(double)(2) == 4


def test_a_callback_hears_of_what_other_threads_compile(disk):
    heard = []
    with on_compile(lambda: heard.append(threading.current_thread().name)):
        thread = threading.Thread(target=entry_point(double), args=(1,), name="other")
        thread.start()
        thread.join()
    assert heard == ["other"]


def files(disk, ending):
    return sorted(disk.rglob(f"*{ending}"))


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.write_bytes(data)


def exchange(disk):
    one, other = files(disk, ".nbc")
    kept = one.read_bytes()
    shutil.copy(other, one)
    other.write_bytes(kept)


DAMAGES = {
    "cut index": lambda disk: [os.truncate(path, 40) for path in files(disk, ".nbi")],
    "empty index": lambda disk: [os.truncate(path, 0) for path in files(disk, ".nbi")],
    "foreign index": lambda disk: [path.write_bytes(b"\x80\x04]\x94." * 3) for path in files(disk, ".nbi")],
    "cut code": lambda disk: [os.truncate(path, 900) for path in files(disk, ".nbc")],
    "empty code": lambda disk: [os.truncate(path, 0) for path in files(disk, ".nbc")],
    "foreign code": lambda disk: [
        path.write_bytes(np.random.default_rng(0).bytes(9000)) for path in files(disk, ".nbc")
    ],
    "flipped bit": lambda disk: [flip(path) for path in files(disk, ".nbc")],
    "no code": lambda disk: [path.unlink() for path in files(disk, ".nbc")],
    "code of other types": exchange,
    "a folder": lambda disk: [(path.unlink(), path.mkdir()) for path in files(disk, ".nbc")],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_code_is_compiled_again_and_written_anew(disk, damage):
    loaded(disk)
    DAMAGES[damage](disk)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert loaded(disk) == 2
    if damage == "a folder":
        assert "cannot be written" in str(said[0].message)
        return
    assert said == []
    assert loaded(disk) == 0


def test_a_full_disk_costs_one_warning(disk, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(compiled._CheckedFiles, "_save_data", full)
    with pytest.warns(UserWarning, match="No space left on device.*NUMBA_CACHE_DIR") as said:
        counts = loaded(disk), loaded(disk)
    assert counts == (2, 2)  # the index names what was never written
    assert len(said) == 1


def test_with_no_folder_to_write_to_there_is_one_warning_once_something_is_compiled(disk, monkeypatch):
    caching = pytest.importorskip("numba.core.caching")
    for locator in caching.CacheImpl._locator_classes:
        monkeypatch.setattr(locator, "from_function", lambda *_: None)
    loops = [entry_point(double) for _ in range(3)]  # silently: importing compiles nothing
    with pytest.warns(UserWarning, match="NUMBA_CACHE_DIR") as said:
        assert [loop(3) for loop in loops] == [6, 6, 6]
    assert len(said) == 1
    assert not files(disk, ".nbc")


READ_ONLY = """
import os, sys
sys.path.insert(0, os.getcwd())
try:
    open("zero_jax/written", "w")
    sys.exit("the folder is not read-only")
except PermissionError:
    pass
import numpy as np
from tests.spaces import SMALL
from zero_jax.evaluation.cost import cost
from zero_jax.program.space import random_programs
from zero_jax.search import Mutations, mutate
programs = random_programs(SMALL, 5, np.random.default_rng(0))
mutate(programs, SMALL, Mutations(), np.random.default_rng(0))
cost(programs, 10)
from zero_jax.cli import entry
entry()
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="a superuser loses the right to write everywhere by prctl")
def test_where_package_and_home_are_read_only_the_command_line_runs_with_one_warning(tmp_path):
    for name in ("zero_jax", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "golden"))
    for path in (*tmp_path.rglob("*"), tmp_path):
        path.chmod(path.stat().st_mode & ~0o222)
    drop = "import ctypes, os, sys; ctypes.CDLL(None).prctl(24, 1, 0, 0, 0); os.execv(sys.executable, sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", drop, sys.executable, "-c", READ_ONLY, "--help"],
        capture_output=True, text=True, timeout=120, cwd=tmp_path,
        env=os.environ | {"HOME": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "cache"), "XDG_CACHE_HOME": ""},
    )  # fmt: skip
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(path.stat().st_mode | 0o200)
    assert done.returncode == 0, done.stderr
    assert "evaluate" in done.stdout
    assert done.stderr.count("UserWarning") == done.stderr.count("NUMBA_CACHE_DIR to a folder") == 1, done.stderr


# ---------------------------------------------------------------------------------------------- locks


@pytest.fixture
def hung(disk, monkeypatch):
    """Another process that compiles `double`, and hangs; gives the lock file."""
    from filelock import FileLock

    monkeypatch.setattr(compiled, "SPEAK_AFTER", 0.2)
    monkeypatch.setattr(compiled, "GIVE_UP_AFTER", 0.5)
    lock = FileLock(disk / entry_point(double)._cache._lock_name, thread_local=False)
    with lock:
        yield Path(lock.lock_file)


def test_waiting_for_another_process_is_said_and_ends(disk, hung, caplog):
    began = time.monotonic()
    assert loaded(disk) == 2
    assert [str(hung) in one.getMessage() for one in caplog.records] == [True]
    assert 0.5 <= time.monotonic() - began < 5
    assert not files(disk, ".nbc")
    began = time.monotonic()
    assert loaded(disk) == 2  # for nothing else is waited
    assert time.monotonic() - began < 0.45 * 2
    assert len(caplog.records) == 1


def test_ctrl_c_ends_the_waiting(disk, hung, monkeypatch):
    monkeypatch.setattr(compiled, "SPEAK_AFTER", 30.0)
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        entry_point(double)(1)
    assert time.monotonic() - began < 5
    timer.join()


def test_a_lock_that_cannot_be_had_stops_nothing(disk, monkeypatch):
    (disk / entry_point(double)._cache._lock_name).mkdir()
    assert loaded(disk) == 2
    assert loaded(disk) == 0
    monkeypatch.setattr("tempfile.tempdir", str(disk / "none"))
    assert loaded(disk) == 0


# ---------------------------------------------------------------------------------------------- signals


@contextlib.contextmanager
def interrupted_when_llvm_asks(hook, monkeypatch):
    """Ctrl-C, once, in one of the functions that LLVM calls, which drops what they raise."""
    registry = pytest.importorskip("numba.core.registry")
    engine = registry.cpu_target.target_context.codegen()._engine._ee
    before, left = getattr(engine, hook), [1]

    def interrupted(*args):
        if left:
            left.clear()
            signal.raise_signal(signal.SIGINT)
        return before(*args)

    monkeypatch.setattr(engine, hook, interrupted)
    yield
    assert not left


@pytest.mark.parametrize("hook", ["_object_cache_notify", "_object_cache_getbuffer"])
def test_ctrl_c_ends_a_compilation_even_where_llvm_drops_it(disk, hook, monkeypatch, capfd):
    with interrupted_when_llvm_asks(hook, monkeypatch), pytest.raises(KeyboardInterrupt):
        entry_point(double)(1)
    assert capfd.readouterr() == ("", "")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert loaded(disk) in (1, 2)


def test_ctrl_c_while_code_is_loaded_comes_after_it(disk, monkeypatch, capfd):
    loaded(disk)
    loop = entry_point(double)
    with interrupted_when_llvm_asks("_object_cache_getbuffer", monkeypatch), pytest.raises(KeyboardInterrupt):
        loop(1)
    assert loop(2) == 4
    assert capfd.readouterr() == ("", "")


def test_signals_that_python_handles_keep_their_meaning(disk):
    seen = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        with on_compile(ctypes.CFUNCTYPE(None)(lambda: signal.raise_signal(signal.SIGTERM))):
            assert entry_point(double)(1) == 2
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
        with (
            on_compile(ctypes.CFUNCTYPE(None)(lambda: signal.raise_signal(signal.SIGTERM))),
            pytest.raises(SystemExit) as ended,
        ):
            entry_point(double)(1.0)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIGTERM]
    assert ended.value.code == 143


# ---------------------------------------------------------------------------------------------- helpers


def triple(x):
    return 3 * x


@pytest.mark.parametrize("kind", [compiled.compiled, compiled.compiled_into_caller])
def test_a_helper_is_part_of_entry_points_also_from_disk_and_python_cannot_call_it(disk, kind):
    helper = kind(triple)

    def sextuple(x):
        return helper(x) + helper(x)

    assert entry_point(sextuple)(2.0) == 12
    again = entry_point(sextuple)
    with on_compile(lambda: pytest.fail("it is on disk")):
        assert again(3.0) == 18
    with pytest.raises(TypeError, match="triple has no machine code of its own: only compiled functions can call it"):
        helper(2.0)


# ---------------------------------------------------------------------------------------------- processes that fork

FORKED = """
import multiprocessing, os, sys, threading, time, warnings
warnings.simplefilter("ignore")  # JAX and Python say that threads and fork do not go well together
import numpy as np
from tests.spaces import SMALL
from zero_jax import evaluate
from zero_jax.support import threads as parallel
from zero_jax.support.compiled import entry_point
from zero_jax.evaluation.evaluator import Evaluator
from zero_jax.program.space import random_programs
from zero_jax.tasks import synthetic
from numba.core.compiler_lock import global_compiler_lock

tasks = synthetic.linear(2, train=20, valid=10)
programs = random_programs(SMALL, 3000, np.random.default_rng(0))
background = Evaluator(tasks, background=True, threads=2)
expected = np.asarray(evaluate(programs, tasks, threads=2).fitness)
np.testing.assert_array_equal(background(programs[:1500]).fitness, expected[:1500])
under_way = background.steps(programs[1500:])
next(under_way)

def rest(steps):
    try:
        while True:
            next(steps)
    except StopIteration as end:
        return end.value.fitness

def compute(what):
    if what == "evaluate":
        return np.asarray(evaluate(programs, tasks, threads=2).fitness)
    if what == "background":
        return background(programs).fitness
    if what == "under way":
        return np.concatenate([expected[:1500], rest(under_way)])
    assert entry_point(lambda x: x + 1)(np.float32(what)) == what + 1
    return expected

def hold(lock, wait):
    with lock:
        held.release()
        wait()

held, forked = threading.Semaphore(0), threading.Event()
for lock, wait in ((parallel._pool_lock, forked.wait), (global_compiler_lock, lambda: time.sleep(0.3))):
    threading.Thread(target=hold, args=(lock, wait), daemon=True).start()
    held.acquire()
with multiprocessing.get_context("fork").Pool(2) as pool:
    forked.set()
    for result in pool.map(compute, ["evaluate", "background", "under way", 3], chunksize=1):
        np.testing.assert_array_equal(result, expected)
np.testing.assert_array_equal(rest(under_way), expected[1500:])
print("equal")
sys.stdout.flush()
os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forked_processes_have_threads_and_locks_of_their_own():
    done = python(FORKED, timeout=300)
    assert done.stdout == "equal\n", done.stderr
