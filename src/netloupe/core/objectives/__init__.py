"""Objectives: scores of one forward pass, one number per image, always to be maximized.

An objective reads named layers. Objectives add, subtract and scale:
`logit("koala") - 1e-3 * l2()` is the class model of Simonyan et al. (2013). A regularizer is an objective on the
input, positive where there is much of what it measures, so subtract it.
"""

from __future__ import annotations

from netloupe.core.moments import covariance, gram
from netloupe.core.objectives.answers import BoxScore as box_score
from netloupe.core.objectives.answers import PixelClass as pixel_class
from netloupe.core.objectives.answers import RegionClass as region_class
from netloupe.core.objectives.answers import Similarity as similarity
from netloupe.core.objectives.answers import Value as value
from netloupe.core.objectives.image import Norm as norm
from netloupe.core.objectives.image import TotalVariation as total_variation
from netloupe.core.objectives.image import l2
from netloupe.core.objectives.matching import Diversity as diversity
from netloupe.core.objectives.matching import MatchBest as match_best
from netloupe.core.objectives.matching import MatchCovariance as match_covariance
from netloupe.core.objectives.matching import MatchFeatures as match_features
from netloupe.core.objectives.matching import MatchGram as match_gram
from netloupe.core.objectives.matching import MatchNeighborhoods as match_neighborhoods
from netloupe.core.objectives.objective import Objective, Reading
from netloupe.core.objectives.text import as_objective, is_text, parse
from netloupe.core.objectives.units import Channel as channel
from netloupe.core.objectives.units import Direction as direction
from netloupe.core.objectives.units import Energy as energy
from netloupe.core.objectives.units import Excitation as excitation
from netloupe.core.objectives.units import Logit as logit
from netloupe.core.objectives.units import LogOdds as log_odds
from netloupe.core.objectives.units import LogProbability as log_probability
from netloupe.core.objectives.units import Neuron as neuron
from netloupe.core.objectives.units import Probability as probability
from netloupe.core.objectives.units import unit

__all__ = [
    "Objective",
    "Reading",
    "as_objective",
    "box_score",
    "channel",
    "covariance",
    "direction",
    "diversity",
    "energy",
    "excitation",
    "gram",
    "is_text",
    "l2",
    "log_odds",
    "log_probability",
    "logit",
    "match_best",
    "match_covariance",
    "match_features",
    "match_gram",
    "match_neighborhoods",
    "neuron",
    "norm",
    "parse",
    "pixel_class",
    "probability",
    "region_class",
    "similarity",
    "total_variation",
    "unit",
    "value",
]
