"""Configurations: `sections`, a whole `experiment`, which choices go together (`compatibility`), and YAML (`files`)."""

from gptgan_jax.config.experiment import Config, with_twin
from gptgan_jax.config.sections import (
    LIKELIHOOD,
    MOST_SEEDS,
    PHASES,
    AdversarialPhase,
    CheckpointConfig,
    ChosenBy,
    ContinuedPhase,
    EmbedderName,
    EvaluationConfig,
    JudgeConfig,
    LikelihoodPhase,
    ObjectiveConfig,
    Phase,
    RecordsConfig,
    SweepConfig,
    TaskName,
    WarmupPhase,
)

__all__ = [
    "LIKELIHOOD",
    "MOST_SEEDS",
    "PHASES",
    "AdversarialPhase",
    "CheckpointConfig",
    "ChosenBy",
    "Config",
    "ContinuedPhase",
    "EmbedderName",
    "EvaluationConfig",
    "JudgeConfig",
    "LikelihoodPhase",
    "ObjectiveConfig",
    "Phase",
    "RecordsConfig",
    "SweepConfig",
    "TaskName",
    "WarmupPhase",
    "with_twin",
]
