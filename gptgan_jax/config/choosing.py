"""The metric that chooses a phase's best checkpoint, `evaluation.choose_by`, and what it needs in a config."""

import difflib
import re
import shlex
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, NamedTuple

from gptgan_jax.data.config import GrammarData, OracleData

if TYPE_CHECKING:
    from gptgan_jax.config.sections import Sections

LIKELIHOOD_CHOICE, TASK_CHOICE = "likelihood", "task"
COMMAND = "command"
GRAMMATICAL, JENSEN_SHANNON, BIGRAMS = "grammatical", "jensen_shannon", "bigram_jensen_shannon"
SAMPLE_FIGURES = {
    GRAMMATICAL: "the share of samples that the grammar allows",
    JENSEN_SHANNON: "from the source of the data, where that is known, in nats",
    BIGRAMS: "between the bigrams of samples and of validation text, in nats",
    "distinct_1": "different words over all words of the samples",
    "distinct_2": "different bigrams over all bigrams of the samples",
    "different_texts": "different samples over all samples",
    COMMAND: "what evaluation.choose_command says of the samples",
}
"""Metrics of samples; samples are generated for them during training only if checkpoints are chosen by one of them."""
NATS, TASK_ERROR = "valid_nats_per_token", "valid_task_error"
CLASS_FIGURES = ("valid_class_error", "valid_macro_f1", "valid_class_nats")
VALIDATION_FIGURES = (NATS, TASK_ERROR, *CLASS_FIGURES)
"""Metrics of validation text that are recorded at each evaluation, if they are defined."""
_FORM = re.compile(r"(max|min)\(\s*([^\s()]+)\s*\)")


class Choice(NamedTuple):
    """The metric to maximise or minimise.

    Attributes:
        name: of the metric.
        greatest: whether larger is better.
    """

    name: str
    greatest: bool

    @property
    def words(self) -> str:
        return f"{'greatest' if self.greatest else 'least'} {self.name}"

    def rank(self, value: float) -> float:
        """A value that is smallest for the best; infinite for NaN, which is never the best."""
        return (-value if self.greatest else value) if abs(value) < float("inf") else float("inf")


def choice_of(choose_by: str) -> Choice | None:
    """Parses `max(NAME)` or `min(NAME)`; None for likelihood and task.

    Raises:
        ValueError: for anything else.
    """
    if choose_by in (LIKELIHOOD_CHOICE, TASK_CHOICE):
        return None
    form = _FORM.fullmatch(choose_by.strip())
    if form is None:
        raise ValueError(
            f"evaluation.choose_by {choose_by!r} should be likelihood, task, or max(NAME) or min(NAME) of a figure: "
            f"{', '.join([*SAMPLE_FIGURES, *VALIDATION_FIGURES])}, or one that the steps record, such as reward"
        )
    return Choice(form[2], form[1] == "max")


def problems_of_choice(config: "Sections", choose_by: str | None = None) -> Iterator[str]:
    """Why `evaluation.choose_by`, or another choice in its place, is impossible, as far as the config shows."""
    evaluation = config.evaluation
    choose_by = evaluation.choose_by if choose_by is None else choose_by
    choice, given = choice_of(choose_by), f"evaluation.choose_by {choose_by}"
    by_answers = choose_by == TASK_CHOICE or (choice is not None and choice.name == TASK_ERROR)
    if by_answers and evaluation.task not in ("summary", "answer"):
        yield f"{given} needs evaluation.task summary or answer; set one, or drop it"
    if (choice is not None and choice.name == COMMAND) != (evaluation.choose_command is not None):
        yield "evaluation.choose_command and choose_by max(command) or min(command) go together: give both, or neither"
    if evaluation.choose_command is not None:
        yield from _problems_of_command(evaluation.choose_command)
    if choice is None:
        return
    known = isinstance(config.data, GrammarData) and not config.conditional
    if choice.name == GRAMMATICAL and not known:
        yield f"{given} is for data.kind grammar without prompts: nothing else knows what is grammatical"
    if choice.name == JENSEN_SHANNON and not known and not isinstance(config.data, OracleData):
        yield (
            f"{given} needs data whose probabilities are known (data.kind grammar without prompts, or oracle); "
            f"{BIGRAMS} is for any text"
        )
    if choice.name in CLASS_FIGURES and not config.classifies:
        yield f"{given} is of a discriminator with classes: set objective.classification.weight"
    if not is_known(choice.name) and evaluation.log_every > evaluation.every:
        yield (
            f"{given} is a mean over the lines between two evaluations, and evaluation.log_every "
            f"{evaluation.log_every} leaves none in evaluation.every {evaluation.every} steps; lower log_every"
        )


def is_known(name: str) -> bool:
    """Whether a metric is measured at evaluations; otherwise it can only be recorded by the steps."""
    return name in SAMPLE_FIGURES or name in VALIDATION_FIGURES


def unknown_figure(config: "Sections", choice: Choice, of_steps: Collection[str]) -> str:
    """The message for a metric that nothing records; `of_steps`: the metrics of the steps."""
    measured = (
        name for name in (*SAMPLE_FIGURES, *VALIDATION_FIGURES) if not [*problems_of_choice(config, f"max({name})")]
    )
    known = sorted({*measured, *of_steps})
    nearest = difflib.get_close_matches(choice.name, known, 1)
    meant = f"did you mean {nearest[0]}? It records" if nearest else "it records"
    return (
        f"evaluation.choose_by {config.evaluation.choose_by}: this run records no {choice.name!r}; {meant} "
        f"{', '.join(known)}"
    )


def _problems_of_command(command: str) -> Iterator[str]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        yield f"evaluation.choose_command {command!r} is no command line ({error})"
        return
    if not words:
        yield "evaluation.choose_command is empty; give a program that reads samples and prints a number"
