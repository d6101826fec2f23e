"""The executors, in order of preference, and the choice among them."""

import dataclasses
import functools
import warnings

from zero_jax.executors.base import Executor, Request
from zero_jax.executors.gpu.executor import Cuda
from zero_jax.executors.pallas.executor import Pallas
from zero_jax.executors.simd.executor import Simd
from zero_jax.executors.xla.executor import Xla
from zero_jax.support.foreign import shown

EXECUTORS: dict[str, Executor] = {executor.name: executor for executor in (Cuda(), Pallas(), Simd(), Xla())}
"""The executors by name; `auto` takes the first that is preferred for a request and does not refuse it."""

REFERENCE = next(reversed(EXECUTORS))
"""The name of the one that serves everywhere, and that the others are held to."""


def names() -> tuple[str, ...]:
    """What users may ask for."""
    return ("auto", *reversed(EXECUTORS))


def choose(name: str, request: Request) -> Executor:
    """The executor of that name, or, for `auto`, the best one for a request.

    Raises:
      ValueError: an unknown name, or an executor that cannot serve; says why, and which can.
    """
    check_executor(name)
    if name == "auto":
        return _automatic(request)
    reason = _refusal(EXECUTORS[name], request)
    if reason is not None:
        raise ValueError(f"{reason}: {_advice(EXECUTORS[name], request)}")
    return EXECUTORS[name]


def _refusal(executor: Executor, request: Request) -> str | None:
    if request.carries and not executor.carries:
        return f"the {executor.name} executor cannot carry memory from one evaluation to the next"
    return executor.refusal(request)


def _automatic(request: Request) -> Executor:
    reason = None
    for executor in EXECUTORS.values():
        if executor.preferred(request):
            refusal = _refusal(executor, request)
            if refusal is None:
                if reason is not None:
                    _warn_once(f"programs run on the slower {executor.name} executor: {reason}")
                return executor
            reason = reason or refusal
    raise ValueError(reason)


def _advice(refusing: Executor, request: Request) -> str:
    """What to use where an executor refuses."""
    others = [
        repr(executor.name)
        for executor in reversed(EXECUTORS.values())
        if executor.preferred(request) and _refusal(executor, request) is None
    ]
    advice = f"use executor={' or '.join(others)}, or 'auto'"
    if refusing.interprets and not request.options.interpret:
        options = dataclasses.replace(request.options, interpret=True)
        if _refusal(refusing, dataclasses.replace(request, options=options)) is None:
            advice += " (from Python, interpret=True runs the kernel anywhere, slowly)"
    return advice


@functools.cache
def _warn_once(message: str) -> None:
    warnings.warn(message, stacklevel=4)


def check_executor(name: str) -> None:
    """Checks the name of an executor.

    Raises:
      ValueError: an unknown one; lists those there are.
    """
    if name not in names():
        raise ValueError(f"executor must be one of {', '.join(names())}, not {shown(name)}")


def may_use_gpu(name: str) -> bool:
    """Whether the executor of that name, or the one that `auto` takes, may run on a GPU."""
    return name not in EXECUTORS or not EXECUTORS[name].on_host
