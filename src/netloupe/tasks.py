"""All tasks, by package."""

from __future__ import annotations

from netloupe.analysis.attention.task import AttentionTask
from netloupe.analysis.explain.task import Explain
from netloupe.analysis.layout.task import Layout
from netloupe.analysis.tasks import Activations, FiltersTask, NeighborsTask, Occlude, Patches, TokensTask
from netloupe.atlas.task import AtlasTask
from netloupe.core.errors import unknown
from netloupe.core.task import Task
from netloupe.studies.ablation.task import AblationTask
from netloupe.studies.audit.task import AuditTask
from netloupe.studies.correspondence.task import CorrespondenceTask
from netloupe.studies.diagnosis.task import DiagnosisTask
from netloupe.studies.evolution.task import EvolutionTask
from netloupe.studies.generalization.task import GeneralizationTask
from netloupe.studies.invariance.task import InvarianceTask
from netloupe.studies.probe.task import ProbeTask
from netloupe.studies.retraining.task import RetrainingTask
from netloupe.studies.trust.task import TrustTask
from netloupe.stylenet.tasks import Apply
from netloupe.synthesis.tasks import Accentuate, DreamTask, FacetsTask, Fool, Invert, Style, TextureTask, Visualize

TASKS: tuple[type[Task], ...] = (
    FiltersTask,
    Activations,
    TokensTask,
    Patches,
    NeighborsTask,
    Layout,
    Explain,
    AttentionTask,
    Occlude,
    Visualize,
    FacetsTask,
    Fool,
    Invert,
    DreamTask,
    Accentuate,
    TextureTask,
    Style,
    CorrespondenceTask,
    InvarianceTask,
    AblationTask,
    RetrainingTask,
    EvolutionTask,
    DiagnosisTask,
    GeneralizationTask,
    ProbeTask,
    TrustTask,
    Apply,
    AuditTask,
    AtlasTask,
)


def task_named(verb: str) -> type[Task]:
    """The task of a verb, or UnknownName with the nearest match."""
    by_verb = {task.verb: task for task in TASKS}
    if verb not in by_verb:
        raise unknown("task", verb, by_verb)
    return by_verb[verb]
