"""The contract of executors: what they are asked for, what they answer, and what they hand back.

An executor trains programs on tasks in one way. `registry.py` lists them in order of preference, and is the
only place that knows their names. To add one, write a subclass of `Executor` and add its line to the registry.

Axes: `P` programs, `T` tasks, `F` features.
"""

import abc
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zero_jax.executors import stream
from zero_jax.program.memory import MemorySize
from zero_jax.program.programs import Programs
from zero_jax.tasks import Tasks

MAX_BYTES = 2**30
"""The default bound on the memory that programs in training take."""


class Evaluation(NamedTuple):
    """The results of an evaluation.

    Attributes:
      fitness: `[P, T]` float32, of each program on each task, in [0, 1].
      train_steps: `[P, T]` int32, the training examples whose Predict ran, including the one that stopped the run.
    """

    fitness: jax.Array
    train_steps: jax.Array


class Memory(NamedTuple):
    """The memory of every program on every task.

    Attributes:
      scalars: `[P, T, S]`.
      vectors: `[P, T, V, F]`.
      matrices: `[P, T, M, F, F]`.
    """

    scalars: jax.Array | np.ndarray
    vectors: jax.Array | np.ndarray
    matrices: jax.Array | np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Options:
    """How programs are evaluated.

    Attributes:
      ops, max_abs_error, chunk_size, max_bytes, differentiable, threads, devices, interpret: as in `evaluate`.
      traced: whether JAX traces any of the arguments.
      canonical_form: whether programs come in canonical form, with no op that `ops` does not cover.
      fuse: whether an executor that can (`Executor.fuses`) makes superinstructions; None leaves it to the executor.
    """

    ops: Any = None
    max_abs_error: Any = 100.0
    chunk_size: int | None = None
    max_bytes: int = MAX_BYTES
    differentiable: bool = False
    threads: int | None = None
    devices: Sequence[jax.Device] | None = None
    interpret: bool = False
    traced: bool = False
    canonical_form: bool = False
    fuse: bool | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Request:
    """What an executor is asked whether it can serve.

    Attributes:
      memory: the memory size of the programs.
      tasks: the tasks; only their shapes matter.
      options: how programs are evaluated.
      fingerprints: whether hashes of all errors are wanted in place of fitness.
      carries: whether runs begin with given memory, or what they leave in memory is wanted.
    """

    memory: MemorySize
    tasks: Tasks
    options: Options = Options()
    fingerprints: bool = False
    carries: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class Prepared:
    """Tasks, ready for one executor.

    Attributes:
      tasks: as the executor lays them out; opaque to everyone else.
      options: how programs are evaluated on them.
    """

    tasks: Any
    options: Options


Pending = Callable[[], tuple[np.ndarray, ...]]
"""Waits for the results of a launch and returns them."""


class Executor(abc.ABC):
    """One way to train programs on tasks.

    Attributes:
      name: what users call it.
      fingerprints: whether it can return hashes of all errors, which a probe needs.
      on_host: whether it works on this process's threads, so that `launch` returns once the work is done.
      compiles_once: whether what it compiles for one call serves other programs and tasks too, so that it pays to
        compile before the clock of a search starts.
      fuses: whether it can make superinstructions.
      interprets: whether `interpret=True` runs it on any machine.
      carries: whether runs can begin with given memory, and hand back what they leave in memory (`launch_carrying`).
    """

    name: ClassVar[str]
    fingerprints: ClassVar[bool] = False
    on_host: ClassVar[bool] = False
    compiles_once: ClassVar[bool] = False
    fuses: ClassVar[bool] = False
    interprets: ClassVar[bool] = False
    carries: ClassVar[bool] = False

    @abc.abstractmethod
    def refusal(self, request: Request) -> str | None:
        """Why it cannot serve, without a full stop; None where it can."""

    def preferred(self, request: Request) -> bool:
        """Whether `auto` should take it for this request, if it does not refuse it."""
        return True

    @abc.abstractmethod
    def bytes(self, request: Request) -> int:
        """An upper estimate of the memory that it needs to train a single program.

        Raises:
          ValueError: more than the device can ever hold.
        """

    def bytes_in_use(self, request: Request, programs: int) -> int:
        """An upper estimate of the memory that it takes to train this many programs in one call."""
        one = self.bytes(request)
        return max(one, min(request.options.max_bytes, programs * one))

    def check_fits(self, request: Request) -> None:
        """Checks that the memory suffices for a single program.

        Raises:
          ValueError: it does not.
        """
        if reason := self.refusal(request):
            raise ValueError(reason)

    def programs_to_fill(self, features: int) -> int:
        """How many programs a call needs to keep the machine busy; 0 where a few do."""
        return 0

    @abc.abstractmethod
    def prepare(self, tasks: Tasks, options: Options) -> Prepared:
        """Lays out tasks, once for all the calls that follow."""

    @abc.abstractmethod
    def launch(
        self,
        programs: Programs,
        prepared: Prepared,
        seed: Any,
        *,
        rows: np.ndarray | None = None,
        fingerprints: bool = False,
    ) -> Pending:
        """Begins to train programs, and returns a function that waits for the end of it. Nothing may be traced.

        Args:
          programs: the programs.
          prepared: from `prepare`.
          seed: of the random instructions.
          rows: `[P]`, which of the programs to train; by default all.
          fingerprints: whether to return hashes instead: equal for programs with equal errors, bit for bit.

        Returns:
          A function that returns fitness `[P, T]` float32 and train_steps `[P, T]` int32; or `[P, 2]` uint64 hashes.
        """

    def launch_carrying(self, programs: Programs, prepared: Prepared, seed: Any, memory: Memory | None) -> Pending:
        """As `launch`, from given memory to the memory that training leaves.

        Args:
          programs: the programs, without dead code (`canonical.pruned`), their addresses as they are.
          prepared: from `prepare`.
          seed: of the random instructions.
          memory: what runs begin with in place of zeros, before Setup; of one program: `[T, ...]`. None for zeros.

        Returns:
          A function that returns fitness, train_steps and the `P` memories: `[P, T, S]`, `[P, T, V, F]` and
          `[P, T, M, F, F]` float32.
        """
        raise NotImplementedError

    def evaluate(self, programs: Programs, tasks: Tasks, seed: Any, options: Options) -> Evaluation:
        """Trains programs and returns JAX arrays: at once or, where something is traced, by a callback."""
        leaves, structure = jax.tree.flatten((programs, tasks))

        def call(seed: Any, limit: Any, *leaves: Any) -> tuple[np.ndarray, ...]:
            given, on = jax.tree.unflatten(structure, [np.asarray(leaf) for leaf in leaves])
            concrete = dataclasses.replace(options, max_abs_error=float(limit), traced=False)
            return self.launch(given, self.prepare(on, concrete), int(seed))()

        bits = stream.seed_bits(seed)
        if not options.traced:
            return Evaluation(*map(jnp.asarray, call(np.asarray(bits), options.max_abs_error, *leaves)))
        shape = (programs.code.shape[0], len(tasks))
        results = (jax.ShapeDtypeStruct(shape, jnp.float32), jax.ShapeDtypeStruct(shape, jnp.int32))
        limit = jnp.asarray(options.max_abs_error, jnp.float32)
        return Evaluation(*jax.pure_callback(call, results, bits, limit, *leaves, vmap_method="sequential"))

    @abc.abstractmethod
    def execute(
        self, programs: Programs, memory: Sequence[jax.Array], component: int, seed: Any, ids: Any, options: Options
    ) -> Memory:
        """Runs one component of every program once.

        Args:
          programs: `P` programs.
          memory: scalars `[P, T, S]`, vectors `[P, T, V, F]` and matrices `[P, T, M, F, F]`.
          component: 0, 1 or 2, for Setup, Predict and Learn.
          seed: of the random instructions.
          ids: `[T]` task ids.
          options: `ops` and `interpret` count.
        """
