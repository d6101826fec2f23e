"""Searches over programs: init, ask and tell on the host, in NumPy. Only the controller of `reinforce` is JAX."""

from zero_jax.search.base import SEARCHERS as SEARCHERS
from zero_jax.search.base import Best as Best
from zero_jax.search.base import HasLineage as HasLineage
from zero_jax.search.base import HasPopulation as HasPopulation
from zero_jax.search.base import Islands as Islands
from zero_jax.search.base import Searcher as Searcher
from zero_jax.search.base import State as State
from zero_jax.search.base import register as register
from zero_jax.search.darts import Darts as Darts
from zero_jax.search.efficient import EfficientEvolution as EfficientEvolution
from zero_jax.search.enas import Enas as Enas
from zero_jax.search.grid import GridSearch as GridSearch
from zero_jax.search.halving import Hyperband as Hyperband
from zero_jax.search.halving import SuccessiveHalving as SuccessiveHalving
from zero_jax.search.lexicase import LexicaseEvolution as LexicaseEvolution
from zero_jax.search.morphism import MorphismEvolution as MorphismEvolution
from zero_jax.search.niches import NicheSearch as NicheSearch
from zero_jax.search.nsga2 import FrontEvolution as FrontEvolution
from zero_jax.search.operators.migration import migrate as migrate
from zero_jax.search.operators.mutation import Mutations as Mutations
from zero_jax.search.operators.mutation import mutate as mutate
from zero_jax.search.random_search import RandomSearch as RandomSearch
from zero_jax.search.regularized_evolution import RegularizedEvolution as RegularizedEvolution
from zero_jax.search.reinforce import Reinforce as Reinforce
from zero_jax.search.tpe import ModelSearch as ModelSearch
from zero_jax.search.weighted import WeightedEvolution as WeightedEvolution
