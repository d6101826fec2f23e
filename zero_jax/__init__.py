"""zero-jax: discovers machine-learning algorithms from scratch, on a GPU-batched population evaluator in JAX.

Importing it starts no device, and imports JAX with the first name that is asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zero_jax.evaluation import Candidates as Candidates
    from zero_jax.evaluation import Evaluator as Evaluator
    from zero_jax.evaluation import Scores as Scores
    from zero_jax.executors.api import evaluate as evaluate
    from zero_jax.executors.api import execute as execute
    from zero_jax.executors.base import Evaluation as Evaluation
    from zero_jax.executors.base import Memory as Memory
    from zero_jax.executors.fitness import program_fitness as program_fitness
    from zero_jax.program import library as library
    from zero_jax.program.memory import MemorySize as MemorySize
    from zero_jax.program.programs import Programs as Programs
    from zero_jax.program.space import Component as Component
    from zero_jax.program.space import SearchSpace as SearchSpace
    from zero_jax.program.space import random_programs as random_programs
    from zero_jax.search import EfficientEvolution as EfficientEvolution
    from zero_jax.search import Mutations as Mutations
    from zero_jax.search import RandomSearch as RandomSearch
    from zero_jax.search import RegularizedEvolution as RegularizedEvolution
    from zero_jax.search import Searcher as Searcher
    from zero_jax.search import mutate as mutate
    from zero_jax.tasks import Tasks as Tasks
    from zero_jax.use.discovery import DiscoveryClassifier as DiscoveryClassifier
    from zero_jax.use.discovery import DiscoveryRegressor as DiscoveryRegressor
    from zero_jax.use.estimators import ProgramClassifier as ProgramClassifier
    from zero_jax.use.estimators import ProgramRegressor as ProgramRegressor
    from zero_jax.use.tuning import Tuned as Tuned
    from zero_jax.use.tuning import tune as tune

__version__ = "0.1.0"

_MODULES = {
    "Candidates": "evaluation",
    "Component": "program.space",
    "DiscoveryClassifier": "use.discovery",
    "DiscoveryRegressor": "use.discovery",
    "EfficientEvolution": "search",
    "Evaluation": "executors.base",
    "Evaluator": "evaluation",
    "Memory": "executors.base",
    "MemorySize": "program.memory",
    "Mutations": "search",
    "ProgramClassifier": "use.estimators",
    "ProgramRegressor": "use.estimators",
    "Programs": "program.programs",
    "RandomSearch": "search",
    "RegularizedEvolution": "search",
    "SearchSpace": "program.space",
    "Scores": "evaluation",
    "Searcher": "search",
    "Tasks": "tasks",
    "Tuned": "use.tuning",
    "evaluate": "executors.api",
    "execute": "executors.api",
    "library": "program.library",
    "mutate": "search",
    "program_fitness": "executors.fitness",
    "random_programs": "program.space",
    "tune": "use.tuning",
}
"""Where each public name comes from."""

__all__ = [
    "Candidates",
    "Component",
    "DiscoveryClassifier",
    "DiscoveryRegressor",
    "EfficientEvolution",
    "Evaluation",
    "Evaluator",
    "Memory",
    "MemorySize",
    "Mutations",
    "ProgramClassifier",
    "ProgramRegressor",
    "Programs",
    "RandomSearch",
    "RegularizedEvolution",
    "Scores",
    "SearchSpace",
    "Searcher",
    "Tasks",
    "Tuned",
    "evaluate",
    "execute",
    "library",
    "mutate",
    "program_fitness",
    "random_programs",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_MODULES[name]}")
    value = module if _MODULES[name].endswith(f".{name}") else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
