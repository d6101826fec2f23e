"""zero-jax: discovers machine-learning algorithms from scratch, on a GPU-batched population evaluator in JAX.

Importing it starts no device.
"""

from zero_jax import library as library
from zero_jax.evaluator import Evaluator as Evaluator
from zero_jax.executors.contract import Evaluation as Evaluation
from zero_jax.executors.contract import Memory as Memory
from zero_jax.executors.contract import program_fitness as program_fitness
from zero_jax.executors.evaluate import evaluate as evaluate
from zero_jax.executors.evaluate import execute as execute
from zero_jax.programs import MemorySize as MemorySize
from zero_jax.programs import Programs as Programs
from zero_jax.programs import SearchSpace as SearchSpace
from zero_jax.programs import random_programs as random_programs
from zero_jax.search import Mutations as Mutations
from zero_jax.search import RandomSearch as RandomSearch
from zero_jax.search import RegularizedEvolution as RegularizedEvolution
from zero_jax.search import SearchState as SearchState
from zero_jax.search import mutate as mutate
from zero_jax.tasks import Tasks as Tasks
from zero_jax.tuning import Tuned as Tuned
from zero_jax.tuning import tune as tune

__version__ = "0.1.0"

__all__ = [
    "Evaluation",
    "Evaluator",
    "Memory",
    "MemorySize",
    "Mutations",
    "Programs",
    "RandomSearch",
    "RegularizedEvolution",
    "SearchSpace",
    "SearchState",
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
