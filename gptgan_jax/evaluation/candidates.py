"""The generators of a run to evaluate: the model it starts from, each phase's best, the last adversarial one."""

import math
from dataclasses import dataclass

from gptgan_jax.checkpoints.manager import Checkpoints
from gptgan_jax.checkpoints.steps import Saved
from gptgan_jax.config import ChosenBy
from gptgan_jax.config.choosing import choice_of
from gptgan_jax.evaluation.results import Column
from gptgan_jax.scoring.classifier import CHOSEN, CLASSIFIER

BEST = {"likelihood": "least validation loss of its phase", "task": "best answers to validation prompts of its phase"}
RESIDUAL, RERANKED, START = "residual", "reranked", "start"
# The columns without any part of a discriminator.
BASELINES = ("likelihood", "continued", RERANKED)


@dataclass(frozen=True)
class Candidate:
    """A checkpoint to evaluate.

    Attributes:
        name: the name of its column.
        saved: its place.
        chosen: how it was chosen.
        swept: the name of its column in a sweep; empty if the sweep leaves it out.
    """

    name: str
    saved: Saved
    chosen: str
    swept: str = ""

    def as_column(self) -> Column:
        where = START if self.name == START else f"{self.saved.phase}/{self.saved.step}"
        return Column(self.name, where, self.chosen)


def candidates(
    checkpoints: Checkpoints,
    residual_candidates: int = 0,
    chosen_by: ChosenBy = "likelihood",
    started: bool = False,
    best_of: int = 0,
) -> list[Candidate]:
    """The checkpoints to evaluate: each phase's best by validation, and the last adversarial one if it is different.

    The warm-up trains no generator; if residual candidates are requested, its last checkpoint is the residual model.
    With `best_of`, the likelihood phase's best is also evaluated as the likeliest of so many texts. If the
    discriminator has classes, the checkpoint that predicts them best is the classifier. A run that `started`
    from a model is compared with the original model.
    """
    found = [Candidate(START, Saved("likelihood", 0, None), "as it came, before the first step")] if started else []
    for phase, name in (("likelihood", "likelihood"), ("continued", "continued"), ("adversarial", "adversarial, best")):
        best = checkpoints.best(phase)  # type: ignore[arg-type]
        if best is not None:
            found.append(Candidate(name, best, _how(best, chosen_by), phase))
    likelihood = checkpoints.best("likelihood")
    if best_of and likelihood is not None:
        how = f"{_how(likelihood, chosen_by)}, each text the likeliest of {best_of}"
        found.append(Candidate(RERANKED, likelihood, how, RERANKED))
    warm = [saved for saved in checkpoints.all() if saved.phase == "warmup"]
    if residual_candidates and warm:
        how = f"last of the warm-up, resampled from {residual_candidates} texts"
        found.append(Candidate(RESIDUAL, warm[-1], how, RESIDUAL))
    adversarial = [saved for saved in checkpoints.all() if saved.phase == "adversarial"]
    if adversarial and adversarial[-1] not in [one.saved for one in found]:
        found.append(Candidate("adversarial, last", adversarial[-1], "last of its phase"))
    classifier = checkpoints.best_classifier()
    if classifier is not None:
        found.append(Candidate(CLASSIFIER, classifier, CHOSEN))
    return found


def _how(best: Saved, chosen_by: ChosenBy) -> str:
    """How a phase's best checkpoint was chosen: by likelihood if the phase does not record the metric."""
    choice = choice_of(chosen_by)
    if choice is None:
        return BEST[chosen_by]
    if best.choice_rank is None:
        return BEST["likelihood"]
    if math.isinf(best.choice_rank):
        return f"last of its phase, as {choice.name} never was a number"
    return f"{choice.words} of its phase"
