"""Reports on a run: pandas tables and one HTML page."""

from zero_jax.report.live import Live as Live
from zero_jax.report.page import write as write
from zero_jax.report.tables import hall_of_fame as hall_of_fame
from zero_jax.report.tables import lineage as lineage
from zero_jax.report.tables import programs as programs
from zero_jax.report.tables import records as records
