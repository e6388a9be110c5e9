"""Which generators of a run are evaluated: the model it starts from, each phase's best, the adversarial one's last."""

import math
from dataclasses import dataclass

from gptgan_jax.checkpoints.manager import Checkpoints
from gptgan_jax.checkpoints.steps import Saved
from gptgan_jax.config import ChosenBy
from gptgan_jax.config.choosing import choice_of
from gptgan_jax.evaluation.results import Column
from gptgan_jax.scoring.classifier import CHOSEN, CLASSIFIER

BEST = {"likelihood": "least validation loss of its phase", "task": "best answers to validation prompts of its phase"}
RESIDUAL, START = "residual", "start"


@dataclass(frozen=True)
class Candidate:
    """A checkpoint that a run is evaluated at.

    Attributes:
        name: of its column.
        saved: where it lies.
        chosen: how it was chosen.
        swept: the name of its column in a sweep; empty where it is left out of that.
    """

    name: str
    saved: Saved
    chosen: str
    swept: str = ""

    def as_column(self) -> Column:
        where = START if self.name == START else f"{self.saved.phase}/{self.saved.step}"
        return Column(self.name, where, self.chosen)


def candidates(
    checkpoints: Checkpoints, residual_candidates: int = 0, chosen_by: ChosenBy = "likelihood", started: bool = False
) -> list[Candidate]:
    """Where a run is evaluated: each phase's best by validation, and the adversarial phase's last if it is another.

    The warm-up trains no generator; where residual candidates are asked for, its last checkpoint is the residual model.
    Where the discriminator has classes, the one that tells them best is the classifier. A run that `started` from a
    model is compared with that model as it came.
    """
    found = [Candidate(START, Saved("likelihood", 0, None), "as it came, before the first step")] if started else []
    for phase, name in (("likelihood", "likelihood"), ("continued", "continued"), ("adversarial", "adversarial, best")):
        best = checkpoints.best(phase)  # type: ignore[arg-type]
        if best is not None:
            found.append(Candidate(name, best, _how(best, chosen_by), phase))
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
    """How a phase's best checkpoint was chosen; by likelihood, where the phase does not record the figure."""
    choice = choice_of(chosen_by)
    if choice is None:
        return BEST[chosen_by]
    if best.choice_rank is None:
        return BEST["likelihood"]
    if math.isinf(best.choice_rank):
        return f"last of its phase, as {choice.name} never was a number"
    return f"{choice.words} of its phase"
