"""A search on many machines, through Ray: islands shared among workers. Ray is imported when a run begins."""

from zero_jax.run.cluster.runner import resume as resume
from zero_jax.run.cluster.runner import run as run
