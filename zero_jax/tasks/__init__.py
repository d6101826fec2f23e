"""`Tasks`, and where they come from."""

from zero_jax.tasks.tasks import LOSSES as LOSSES
from zero_jax.tasks.tasks import Loss as Loss
from zero_jax.tasks.tasks import Tasks as Tasks
