"""A run judged from its folder alone: the score table, and the report around it."""

import math
import shlex
from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np

from gptgan_jax.config_files import to_yaml
from gptgan_jax.data.batches import TokenisedSplit, evaluation_batches
from gptgan_jax.data.corpora import Split
from gptgan_jax.data.pcfg import PCFG
from gptgan_jax.errors import UserError
from gptgan_jax.evaluation.estimates import Estimate, ratio_of_sums
from gptgan_jax.evaluation.likelihood import likelihood_of
from gptgan_jax.evaluation.report import SamplePair, Score, alarms_in, write_report
from gptgan_jax.evaluation.scores import text_scores
from gptgan_jax.evaluation.texts import Drawing, TextWriter, Written
from gptgan_jax.runs.checkpoints import Checkpoints, Saved
from gptgan_jax.runs.experiment import Experiment, restore_generator
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.runs.records import read_metrics

REAL = "real text"
Figures = dict[tuple[str, str], Estimate]


@dataclass(frozen=True)
class Judged:
    """One checkpoint's figures, and a few texts from keys that are the same for every checkpoint."""

    saved: Saved
    figures: Figures
    shown: list[str]


def candidates(checkpoints: Checkpoints) -> dict[str, Saved]:
    """What a run is judged by: each phase's best by validation, and the adversarial phase's last where that is another.

    The warm-up trains no generator and is left out.
    """
    found: dict[str, Saved] = {}
    likelihood, adversarial = checkpoints.best("likelihood"), checkpoints.best("adversarial")
    if likelihood:
        found["likelihood"] = likelihood
    if adversarial:
        found["adversarial, best"] = adversarial
        last = [saved for saved in checkpoints.all() if saved.phase == "adversarial"][-1]
        if last != adversarial:
            found["adversarial, last"] = last
    return found


@dataclass(frozen=True)
class Evaluation:
    """The outcome: the table, and by candidate a few of its texts."""

    scores: list[Score]
    shown: dict[str, list[str]]


def evaluate_run(folder: RunFolder, experiment: Experiment, say: Callable[[str], None]) -> Evaluation:
    """Scores the run's checkpoints and real text, and writes report.md.

    Every likelihood is of the test split. Samples are as many as the real texts that stand beside them.

    Raises:
        UserError: where no checkpoint of a generator has been saved yet.
    """
    evaluation = experiment.config.evaluation
    held_out = likelihood_of(experiment.generator)
    drawing = Drawing(evaluation.temperature, evaluation.top_k, evaluation.top_p)
    writer = TextWriter(
        experiment.generator, experiment.tokenizer, experiment.config.data.max_length, evaluation.batch_size
    )
    training_texts = frozenset(_strings(experiment, experiment.corpus.train, experiment.train))
    real = _real_texts(experiment)
    count = len(real.texts)
    prompts = _test_prompts(experiment, count)
    with Checkpoints(folder.checkpoints, read_only=True) as checkpoints:
        chosen = candidates(checkpoints)
        if not chosen:
            raise UserError(f"{folder.path} has no checkpoint of a trained generator yet; train it further")
        judged: dict[str, Judged] = {}
        for name, saved in chosen.items():
            say(f"evaluating {name}: checkpoint {saved.phase}/{saved.step}")
            try:
                params = restore_generator(checkpoints, saved, experiment.config, experiment.generator)
            except UserError as error:
                say(f"left out: {error}")
                continue
            likelihood = held_out(params, evaluation_batches(experiment.test, evaluation.batch_size))
            written = writer(params, jax.random.key(experiment.config.seed + 1), count, drawing, prompts)
            figures = _likelihood_figures(Estimate(likelihood.nats_per_token, likelihood.standard_error))
            figures |= text_scores(written, training_texts, experiment.corpus.source)
            judged[name] = Judged(saved, figures, written.texts[: evaluation.shown])
    real_figures = source_likelihood(experiment) | text_scores(real, training_texts, experiment.corpus.source)
    scores = _table({name: one.figures for name, one in judged.items()} | {REAL: real_figures}, experiment, count)
    _report(folder, experiment, scores, judged)
    return Evaluation(scores, {name: one.shown for name, one in judged.items()})


def source_likelihood(experiment: Experiment) -> Figures:
    """The test text's NLL under the source that drew it: the least that any model can expect.

    Known for the grammar and the oracle, and comparable only where no text was cut off; otherwise empty.
    """
    source, split, encoded = experiment.corpus.source, experiment.corpus.test, experiment.test
    if source is None or split is None or encoded.truncated_targets:
        return {}
    if isinstance(source, PCFG):
        nats = -np.array([source.log_prob(text) for text in split.texts])
    else:
        assert split.tokens is not None, "an oracle's texts are tokens"
        nats = -source.log_prob(split.tokens)
    return _likelihood_figures(ratio_of_sums(nats, np.diff(encoded.targets.offsets)))


def _likelihood_figures(nll: Estimate) -> Figures:
    """Held-out NLL, and its exponential with the error that goes with it."""
    if nll.value is None:
        return {}
    perplexity = math.exp(min(nll.value, 700.0))
    error = None if nll.error is None else perplexity * nll.error
    return {("held-out NLL", "nats/token"): nll, ("held-out perplexity", "per token"): Estimate(perplexity, error)}


def _real_texts(experiment: Experiment) -> Written:
    """The first test texts, as many as `evaluation.samples` asks for and there are, in the form of a sample."""
    test = experiment.test
    count = min(experiment.config.evaluation.samples, len(test))
    batch = next(evaluation_batches(test, count))
    tokens, mask = np.asarray(batch.target), np.asarray(batch.target_mask)
    texts = [experiment.tokenizer.decode(row[kept].tolist()) for row, kept in zip(tokens, mask, strict=True)]
    return Written(texts, tokens, mask)


def _strings(experiment: Experiment, split: Split, encoded: TokenisedSplit) -> list[str]:
    """The texts of a split as the tokenizer writes them, cut off like samples are."""
    return [experiment.tokenizer.decode(encoded.targets[i].tolist()) for i in range(len(encoded))]


def _test_prompts(experiment: Experiment, count: int) -> list[list[int]] | None:
    prompts = experiment.test.prompts
    return None if prompts is None else [prompts[i].tolist() for i in range(count)]


def _table(columns: dict[str, Figures], experiment: Experiment, count: int) -> list[Score]:
    evaluation = experiment.config.evaluation
    test = experiment.test
    split = "test" if experiment.corpus.test is not None else "validation"
    drawn = f"{count} samples, temperature {evaluation.temperature:g}"
    drawn += f", top-k {evaluation.top_k}" if evaluation.top_k else ""
    drawn += f", top-p {evaluation.top_p:g}" if evaluation.top_p < 1 else ""
    drawn += f", seed {experiment.config.seed + 1}"
    names = list(dict.fromkeys(name for figures in columns.values() for name in figures))
    scores = []
    for name, unit in names:
        measured = {column: figures.get((name, unit), Estimate(None)) for column, figures in columns.items()}
        scores.append(
            Score(
                name=name,
                unit=unit,
                values={column: estimate.value for column, estimate in measured.items()},
                errors={column: estimate.error for column, estimate in measured.items()},
                signature=f"{len(test)} {split} texts, T={test.max_length}" if name.startswith("held-out") else drawn,
            )
        )
    return scores


def _report(folder: RunFolder, experiment: Experiment, scores: list[Score], judged: dict[str, Judged]) -> None:
    records = read_metrics(folder.path)
    before = judged.get("likelihood")
    after = next((one for name, one in judged.items() if name.startswith("adversarial")), None)
    shown = max((len(one.shown) for one in (before, after) if one), default=0)
    prompts = _test_prompts(experiment, shown)
    notes = [f"{name}: checkpoint {one.saved.phase}/{one.saved.step}" for name, one in judged.items()]
    notes += [
        "± is one standard error. Real text is held-out text scored as if it were samples; its held-out NLL, where its "
        "source is known, is that of the source itself: the least that any model can reach.",
        *experiment.notes,
    ]
    write_report(
        folder.path,
        title=experiment.config.name,
        command=f"python train.py {shlex.quote(str(folder.config_file))} --name {experiment.config.name}-again",
        config_text=to_yaml(experiment.config),
        phases=(),
        scores=scores,
        samples=[
            SamplePair(
                before=before.shown[i] if before else None,
                after=after.shown[i] if after else None,
                prompt="" if prompts is None else experiment.tokenizer.decode(prompts[i]),
            )
            for i in range(shown)
        ],
        alarms=alarms_in(records),
        notes=notes,
    )
