"""Hand-written programs, by name."""

import os
from collections.abc import Sequence
from pathlib import Path

from zero_jax.program.memory import HasLabels
from zero_jax.program.programs import Programs
from zero_jax.support.bounds import MAX_TEXT
from zero_jax.support.foreign import cut, reason, shown

_LINEAR = """
def Setup():
  s2 = {learning_rate}
def Predict():
  s1 = dot(v1, v0)
def Learn():
  s3 = s0 - s1
  s3 = s2 * s3
  v2 = s3 * v0
  v1 = v1 + v2
"""

_NETWORK = """
def Setup():
  v2 = gaussian(0, 0.1)
  m0 = gaussian(0, 0.1)
  s3 = {learning_rate}
def Predict():
  v3 = dot(m0, v0)
  v3 = v3 + v1
  v4 = maximum(v3, v5)
  s1 = dot(v4, v2)
  s1 = s1 + s2
def Learn():
  s4 = s0 - s1
  s4 = s3 * s4
  s2 = s2 + s4
  v6 = s4 * v4
  v2 = v2 + v6
  v7 = s4 * v2
  v8 = heaviside(v3)
  v7 = v8 * v7
  v1 = v1 + v7
  m1 = outer(v7, v0)
  m0 = m0 + m1
"""

_SOFTMAX_LINEAR = """
def Setup():
  s2 = {learning_rate}
def Predict():
  v2 = dot(m0, v0)
  v2 = v2 + v3
def Learn():
  v4 = v1 - v2
  v4 = s2 * v4
  v3 = v3 + v4
  m1 = outer(v4, v0)
  m0 = m0 + m1
"""

_SOFTMAX_NETWORK = """
def Setup():
  m0 = gaussian(0, 0.1)
  s2 = {learning_rate}
def Predict():
  v3 = dot(m0, v0)
  v3 = v3 + v4
  v5 = maximum(v3, v6)
  v2 = dot(m1, v5)
  v2 = v2 + v7
def Learn():
  v8 = v1 - v2
  v8 = s2 * v8
  v7 = v7 + v8
  m2 = transpose(m1)
  m3 = outer(v8, v5)
  m1 = m1 + m3
  v9 = dot(m2, v8)
  v10 = heaviside(v3)
  v9 = v10 * v9
  v4 = v4 + v9
  m3 = outer(v9, v0)
  m0 = m0 + m3
"""

_CIFAR10 = """
def Setup():
def Predict():
  v1 = v0 - v9
  v5 = v0 + v9
  v6 = dot(m1, v5)
  m1 = s2 * m2
  s1 = dot(v6, v1)
def Learn():
  s4 = s0 - s1
  m1 = outer(v1, v0)
  s5 = sin(s4)
  s2 = norm(m1)
  s7 = s5 / s2
  v11 = s7 * v1
  m1 = outer(v11, v5)
  m0 = m1 + m0
  v9 = uniform(2e-3, 0.7)
  s4 = std(m0)
  m2 = m2 + m0
  m1 = s4 * m0
"""

_TEXTS = {
    "linear": _LINEAR,
    "network": _NETWORK,
    "cifar10": _CIFAR10,
    "softmax_linear": _SOFTMAX_LINEAR,
    "softmax_network": _SOFTMAX_NETWORK,
}

NAMES: tuple[str, ...] = tuple(_TEXTS)
"""The names that `program` knows."""


def program(
    name: str,
    memory: Sequence[int] | None = None,
    capacity: Sequence[int] | None = None,
    *,
    learning_rate: float = 0.01,
) -> Programs:
    """One hand-written program.

    Args:
      name: `linear`, a linear regressor trained by gradient descent (upstream's LINEAR); `network`, a 2-layer network
        with a ReLU trained by backpropagation (upstream's NEURAL_NET); `cifar10`, the best program of the paper as its
        authors simplified it (supplement, S1b); `softmax_linear` and `softmax_network`, the first two for tasks of more
        than two classes, where labels are vectors. (Output weights begin at 0, so that elements of the
        prediction that stand for no class stay 0.)
      memory: (scalars, vectors, matrices); by default the smallest that holds the program.
      capacity: slots per component; by default the program's own lengths.
      learning_rate: of all but `cifar10`.

    Raises:
      ValueError: an unknown name, or a memory or capacity that the program does not fit.

    Example:
      >>> program("network").length.tolist()
      [[3, 5, 11]]
    """
    if name not in _TEXTS:
        raise ValueError(f"no program {shown(name)} in the library; it has {', '.join(NAMES)}")
    return Programs.parse(_TEXTS[name].format(learning_rate=learning_rate), memory, capacity)


def baseline(name: str, tasks: HasLabels, *, learning_rate: float = 0.01) -> Programs:
    """The program `name`, or `softmax_` and that name if the tasks have vector labels.

    Args:
      name: `linear` or `network`.
      tasks: the tasks, or a description of them.
      learning_rate: as `program` takes it.
    """
    return program(f"softmax_{name}" if tasks.vector_labels else name, learning_rate=learning_rate)


def load(source: str, memory: Sequence[int] | None = None) -> Programs:
    """A program by its name in the library, or from a file with a listing, a text proto or JSON.

    Args:
      source: a name, a path, or the folder of a run, for its best program; with several lines, the listing, text
        proto or JSON itself.
      memory: (scalars, vectors, matrices); by default as in `Programs.parse`.

    Raises:
      ValueError: neither a name nor a readable file, or a file that does not hold a program.
    """
    if source in NAMES:
        return program(source, memory)
    text = text_of(source)
    try:
        programs = Programs.parse(text, memory)
    except ValueError as error:
        raise ValueError(f"{cut(source.splitlines()[0])}: {error}") from None
    if not len(programs):
        raise ValueError(f"{cut(source.splitlines()[0])} holds no programs")
    return programs


def text_of(source: str) -> str:
    """The text of a file; a source of several lines is the text itself. Raises as `load` does."""
    if "\n" in source:
        return source
    path = Path(source)
    try:
        if (path / "config.json").is_file():  # the folder of a run
            path = path / "best.json"
            if not path.exists():
                raise ValueError(f"the run in {cut(source)} has no best program yet: there is no {path.name}")
        elif path.is_dir():
            raise ValueError(f"{cut(source)} is a folder, but not a run: it has no config.json")
        with open(path, encoding="utf-8-sig", opener=_without_waiting) as file:
            text = file.read(MAX_TEXT + 1)  # a device never ends
    except FileNotFoundError:
        names = ", ".join(NAMES)
        raise ValueError(f"{shown(source)} is not a file, a run's folder or a library program ({names})") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read {cut(source)}: {reason(error)}") from None
    if len(text) > MAX_TEXT:
        raise ValueError(f"{cut(source)} has more than {MAX_TEXT:,} characters, too many for a program")
    return text


def _without_waiting(path: str, flags: int) -> int:
    """Opens a FIFO without waiting for a writer: without one, it is empty."""
    if not hasattr(os, "O_NONBLOCK"):
        return os.open(path, flags)
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    os.set_blocking(descriptor, True)
    return descriptor
