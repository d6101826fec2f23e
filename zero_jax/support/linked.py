"""How Numba compiles helpers here: as part of the entry points that call them, and never by themselves.

Numba makes machine code of each compiled function, since Python might call it, then once more as part of each compiled
function that calls it. A helper is never called from Python. Left out, an entry point with all it calls compiles in
half the time, to code that is as fast.
"""

from collections.abc import Callable
from typing import Any

import numba
from numba import _dynfunc
from numba.core import codegen, compiler, dispatcher


class _Library(codegen.JITCodeLibrary):
    """The code of a helper, to be linked into that of its callers, who optimise it as part of their own."""

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True


class _Compiler(dispatcher._FunctionCompiler):  # type: ignore[name-defined]
    """Compiles a helper as far as its callers need it."""

    def _compile_core(self, args: Any, return_type: Any) -> Any:
        flags = compiler.Flags()
        self.targetdescr.options.parse_as_flags(flags, self.targetoptions)
        flags.no_compile = True
        context = self.targetdescr.target_context
        result = compiler.compile_extra(
            self.targetdescr.typing_context,
            context,
            self.py_func,
            args=args,
            return_type=return_type,
            flags=flags,
            locals=self.locals,
            library=_Library(context.codegen(), self.py_func.__qualname__),
            pipeline_class=self.pipeline_class,
        )
        if result.typing_error is not None:
            raise result.typing_error
        # Callers know a compiled function by the object that Python would call: here one that cannot be called.
        name, module = self.py_func.__name__, result.fndesc.lookup_module()
        known_as = _dynfunc.make_function(module, name, name, 0, result.environment, (result.library,))
        context.insert_user_function(known_as, result.fndesc, [result.library])
        return result._replace(entry_point=known_as)


class _Helper(dispatcher.Dispatcher):
    """What compiled functions call."""

    def __call__(self, *args: Any) -> Any:
        raise TypeError(f"{self.py_func.__name__} has no machine code of its own: only compiled functions can call it")


def helper(function: Callable[..., Any], into_caller: bool) -> Any:
    """A function that compiled functions can call, and Python cannot.

    Args:
      function: to compile, anew for each combination of types.
      into_caller: whether it becomes part of each function that calls it; else LLVM decides.
    """
    made = numba.njit(
        error_model="numpy",
        nogil=True,
        _nrt=False,
        no_cpython_wrapper=True,
        no_cfunc_wrapper=True,
        forceinline=into_caller,
    )(function)
    made.__class__ = _Helper
    plain = made._compiler
    made._compiler = _Compiler(
        plain.py_func, plain.targetdescr, plain.targetoptions, plain.locals, plain.pipeline_class
    )
    return made
