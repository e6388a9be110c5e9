"""Temperature x top-p over a run's generators: what each achieves at its best, and at equal diversity.

Caccia et al. 2020, "Language GANs Falling Short" (https://arxiv.org/abs/1811.02549): a text GAN is worth something
if it beats likelihood training at every temperature, not at one. The baselines are the run's best likelihood
checkpoint and likelihood training continued for as long as the adversarial phase.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from gptgan_jax.checkpoints.manager import Checkpoints
from gptgan_jax.config import EmbedderName
from gptgan_jax.data.encoding import TokenisedSplit
from gptgan_jax.errors import UserError
from gptgan_jax.evaluation.inherited import own_columns, with_baselines
from gptgan_jax.evaluation.results import Axes, Cell, Evaluation, Sweep
from gptgan_jax.evaluation.scores import FRECHET, Ruler, Source, frechet, lm_score, self_bleu_figures
from gptgan_jax.evaluation.subject import Model, Subject
from gptgan_jax.evaluation.task_sweep import NLL, sweep_of_task
from gptgan_jax.generation.texts import Drawing, TextSet, Written
from gptgan_jax.metrics.divergences import LogProbs, divergences
from gptgan_jax.metrics.estimates import REAL, Estimate, Figure, mean_of, ratio_of_sums, share_of, sum_of_independent
from gptgan_jax.metrics.ngrams import bleu
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.scoring.held_out_likelihood import HeldOut
from gptgan_jax.sources.oracle import Oracle
from gptgan_jax.tokenization.units import plural, units_of

BLEU, SELF_BLEU, LM = "BLEU-4", "Self-BLEU-4", "LM score"
JS, ORACLE, GRAMMATICAL = "Jensen-Shannon divergence", "NLL_oracle", "grammatical"
FORWARD, REVERSE = "forward KL", "reverse KL"
ORACLE_SUM = "NLL_oracle + held-out NLL"


@dataclasses.dataclass(frozen=True, eq=False)
class _Side:
    """One set of held-out texts, to choose by or to report: its split, texts, and their source's log-probabilities."""

    split: TokenisedSplit
    texts: TextSet
    source: np.ndarray | None


def sweep_run(folder: RunFolder, say: Callable[[str], None], embedder: EmbedderName | None = None) -> Evaluation:
    """Adds the sweep to a run's evaluation.json.

    Every point of the grid has two sets of samples: one is compared with validation text, to choose a temperature,
    the other with the test text, for the report.

    Raises:
        UserError: if the run can't be evaluated; see `evaluate_run`.
    """
    evaluation = Evaluation.load(folder.path)
    assert evaluation is not None, "evaluate_run comes first"
    subject = Subject(folder, say, embedder)
    with Checkpoints(folder.checkpoints, read_only=True) as checkpoints:
        evaluated = own_columns(evaluation)
        chosen = [one for one in subject.candidates(checkpoints) if one.swept and one.as_column() in evaluated]
        models = {one.swept: subject.model(checkpoints, one) for one in chosen}
    evaluation = dataclasses.replace(evaluation, sweep=sweep(subject, models))
    evaluation = with_baselines(evaluation, folder, subject.run.config, say)
    evaluation.save(folder.path)
    return evaluation


def sweep(subject: Subject, models: dict[str, Model]) -> Sweep:
    """The grid over some models of a run, by the names of their columns, with real text for comparison.

    Raises:
        UserError: if a set of held-out texts has fewer than 2.
    """
    if subject.run.config.evaluation.task in ("summary", "answer"):
        return sweep_of_task(subject, models)
    grid = subject.run.config.evaluation.sweep
    count = min(grid.samples, len(subject.real), len(subject.references))
    if count < 2:
        raise UserError(f"{subject.folder.path}: {count} held-out text is too little for a sweep; hold out more")
    valid = _Side(subject.real, subject.real_texts, subject.source_of(subject.real_texts))
    test = _Side(subject.references, subject.reference_texts, subject.source_of(subject.reference_texts))
    cells: list[Cell] = []
    signatures: dict[str, str] = {}
    first = np.arange(count)
    for column, model in models.items():
        for top_p in grid.top_p:
            for temperature in grid.temperatures:
                drawing = Drawing(temperature, 0, top_p)
                subject.say(f"sweep: {column}, {drawing}")
                if subject.run.conditional:
                    # Each side's texts answer its own prompts.
                    of_valid, of_test = (model.answers(side.split.subset(first), drawing) for side in (valid, test))
                else:
                    written = model.write(2 * count, drawing)
                    of_valid, of_test = written.part(slice(0, count)), written.part(slice(count, None))
                chosen_by = _figures_of(subject, model, drawing, of_valid, valid)
                reported = _figures_of(subject, model, drawing, of_test, test)
                cells.append(Cell(column, temperature, top_p, _by_name(chosen_by), _by_name(reported)))
                signatures |= {figure.name: figure.signature for figure in reported}
    # Real text: each side's texts scored against the other side's.
    chosen_by = _figures(subject, valid, test.texts.part(first), None, None)
    reported = _figures(subject, test, valid.texts.part(first), None, None)
    cells.append(Cell(REAL, 1.0, 1.0, _by_name(chosen_by), _by_name(reported)))
    source = None if subject.run.conditional or test.source is None else subject.text.source
    return Sweep(cells, *_trade_offs(source), signatures)


def _trade_offs(source: Source | None) -> tuple[list[Axes], dict[str, str]]:
    """The axes of the frontiers, and the metrics that choose a temperature, for data from this source."""
    axes = [
        Axes(BLEU, SELF_BLEU, "higher", "lower", "", ""),
        Axes(LM, SELF_BLEU, "lower", "lower", "nats/token", ""),
    ]
    combined = {FRECHET: ""}
    if source is None:
        return axes, combined
    if isinstance(source, Oracle):
        # Not Jensen-Shannon: far from an oracle all models are near log 2, and noise would decide the choice.
        return [Axes(ORACLE, NLL, "lower", "lower", "nats/token", "nats/token"), *axes], {
            ORACLE_SUM: "nats/token"
        } | combined
    return [Axes(GRAMMATICAL, NLL, "higher", "lower", "share", "nats/token"), *axes], {JS: "nats"} | combined


def _figures_of(subject: Subject, model: Model, drawing: Drawing, written: Written, side: _Side) -> list[Figure]:
    """The metrics of a model's samples, and of its likelihood, against one side."""
    held_out = model.likelihood(side.split, drawing)
    return _figures(subject, side, written.as_set(), held_out, written.log_probs)


def _by_name(figures: Sequence[Figure]) -> dict[str, Estimate]:
    return {figure.name: figure.estimate for figure in figures}


def _figures(
    subject: Subject, side: _Side, samples: TextSet, held_out: HeldOut | None, log_probs: np.ndarray | None
) -> list[Figure]:
    """The metrics of one cell; without a likelihood, those of real text under its own source."""
    drawn = f"{len(samples)} texts, the run's seed"
    unit = subject.unit
    words, references = units_of(samples.texts, unit), units_of(side.texts.texts, unit)
    against = f"{drawn}; {len(references)} references"
    figures = [
        Figure(BLEU, "", mean_of(bleu(words, references, (4,))[4]), f"{against}, {plural(unit)}, method1", "higher"),
        *self_bleu_figures(words, drawn, (4,), unit),
        lm_score(samples, subject.judge, drawn),
        frechet(samples, Ruler(side.texts, judge=subject.judge), drawn),
    ]
    if held_out is not None:
        figures.append(Figure(NLL, "nats/token", held_out.per_token(), f"{len(references)} texts", "lower"))
    if side.source is None or subject.run.conditional:
        return figures
    source_of_samples = subject.source_of(samples)
    assert source_of_samples is not None
    if held_out is None:
        held_out, log_probs = HeldOut(-side.source, np.diff(side.texts.targets.offsets)), source_of_samples
        figures.append(Figure(NLL, "nats/token", held_out.per_token(), f"{len(references)} texts", "lower"))
    assert log_probs is not None
    found = divergences(LogProbs(side.source, -held_out.nats), LogProbs(source_of_samples, log_probs))
    figures += [
        Figure(FORWARD, "nats/text", found.forward_kl, against, "lower"),
        Figure(REVERSE, "nats/text", found.reverse_kl, drawn, "lower"),
        Figure(JS, "nats", found.jensen_shannon, against, "lower"),
    ]
    if isinstance(subject.text.source, Oracle):
        oracle, nll = ratio_of_sums(-source_of_samples, np.diff(samples.targets.offsets)), held_out.per_token()
        figures.append(Figure(ORACLE, "nats/token", oracle, drawn, "lower"))
        figures.append(Figure(ORACLE_SUM, "nats/token", sum_of_independent(oracle, nll), against, "lower"))
    else:
        figures.append(Figure(GRAMMATICAL, "share", share_of(np.isfinite(source_of_samples)), drawn, "higher"))
    return figures
