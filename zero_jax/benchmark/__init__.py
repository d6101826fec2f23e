"""Tables of small spaces: the fitness of every program, so that searchers are compared in seconds, with no training."""

from zero_jax.benchmark.races import CHECKPOINTS as CHECKPOINTS
from zero_jax.benchmark.races import Race as Race
from zero_jax.benchmark.races import methods as methods
from zero_jax.benchmark.races import race as race
from zero_jax.benchmark.races import searcher as searcher
from zero_jax.benchmark.table import NAMES as NAMES
from zero_jax.benchmark.table import LookUp as LookUp
from zero_jax.benchmark.table import Table as Table
from zero_jax.benchmark.table import build as build
from zero_jax.benchmark.table import load as load
from zero_jax.benchmark.table import read as read
from zero_jax.benchmark.table import write as write
