"""What a sweep can gather: each kind takes in layers' outputs batch by batch, merges, and can be saved."""

from netloupe.sweep.accumulator import Accumulator
from netloupe.sweep.classes import ClassMeans, MeansByClass
from netloupe.sweep.peaks import Peaks, PeakStatistics
from netloupe.sweep.top import Strongest, Top
from netloupe.sweep.vectors import Features, FeatureVectors, PredictedClasses, Predictions

__all__ = [
    "Accumulator",
    "ClassMeans",
    "FeatureVectors",
    "Features",
    "MeansByClass",
    "PeakStatistics",
    "Peaks",
    "PredictedClasses",
    "Predictions",
    "Strongest",
    "Top",
]
