"""Evaluation: programs pass through stages that save work, and what is left is trained by an executor."""

from zero_jax.evaluation.base import Candidates as Candidates
from zero_jax.evaluation.base import Counts as Counts
from zero_jax.evaluation.base import Fate as Fate
from zero_jax.evaluation.base import Scores as Scores
from zero_jax.evaluation.base import Share as Share
from zero_jax.evaluation.evaluator import Evaluator as Evaluator
from zero_jax.evaluation.hurdles import Hurdles as Hurdles
from zero_jax.evaluation.hurdles import Rung as Rung
from zero_jax.evaluation.known_forms import KnownForms as KnownForms
from zero_jax.evaluation.probe import Probe as Probe
from zero_jax.evaluation.train_budget import TrainBudget as TrainBudget
