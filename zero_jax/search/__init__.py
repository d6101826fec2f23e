"""Searches over programs: init / ask / tell on the host, in NumPy. Nothing here touches a device."""

from zero_jax.search.efficient import EfficientEvolution as EfficientEvolution
from zero_jax.search.operators.migration import migrate as migrate
from zero_jax.search.operators.mutation import Mutations as Mutations
from zero_jax.search.operators.mutation import mutate as mutate
from zero_jax.search.random_search import RandomSearch as RandomSearch
from zero_jax.search.regularized_evolution import RegularizedEvolution as RegularizedEvolution
from zero_jax.search.state import SearchState as SearchState
