"""A run judged from its folder alone: the score table, and the report around it."""

import math
import shlex
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gptgan_jax.config import Config
from gptgan_jax.config_files import to_yaml
from gptgan_jax.data.batches import TokenisedSplit, evaluation_batches
from gptgan_jax.data.pcfg import PCFG
from gptgan_jax.data.tokenizers import AnyTokenizer
from gptgan_jax.errors import UserError
from gptgan_jax.evaluation.estimates import Estimate, ratio_of_sums
from gptgan_jax.evaluation.likelihood import likelihood_of
from gptgan_jax.evaluation.report import SamplePair, Score, alarms_in, write_report
from gptgan_jax.evaluation.scores import text_scores
from gptgan_jax.evaluation.texts import Drawing, TextWriter, Written
from gptgan_jax.runs.checkpoints import Checkpoints, Saved
from gptgan_jax.runs.experiment import Writer, load_writer, restore_generator
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.runs.held_out import HeldOutText, load_held_out
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


def evaluate_run(folder: RunFolder, say: Callable[[str], None]) -> Evaluation:
    """Scores the run's checkpoints and real text, and writes report.md.

    Every likelihood is of the test split. Samples are as many as the real texts that stand beside them.

    Raises:
        UserError: where no checkpoint of a generator has been saved yet.
    """
    run = load_writer(folder)
    text = load_held_out(folder.path, run.generator.vocabulary)
    evaluation = run.config.evaluation
    likelihood_on = likelihood_of(run.generator)
    drawing = Drawing(evaluation.temperature, evaluation.top_k, evaluation.top_p)
    writer = TextWriter(run.generator, run.tokenizer, run.config.data.max_length, evaluation.batch_size)
    real = _real_texts(text.test, run.tokenizer, evaluation.samples)
    count = len(real.texts)
    prompts = text.test.first_prompts(count)
    with Checkpoints(folder.checkpoints, read_only=True) as checkpoints:
        chosen = candidates(checkpoints)
        if not chosen:
            raise UserError(f"{folder.path} has no checkpoint of a trained generator yet; train it further")
        judged: dict[str, Judged] = {}
        for name, saved in chosen.items():
            say(f"evaluating {name}: checkpoint {saved.phase}/{saved.step}")
            try:
                params = restore_generator(checkpoints, saved, run.config, run.generator)
            except UserError as error:
                say(f"left out: {error}")
                continue
            likelihood = likelihood_on(params, evaluation_batches(text.test, evaluation.batch_size))
            written = writer(params, run.config.seed, count, drawing, prompts)
            figures = _likelihood_figures(Estimate(likelihood.nats_per_token, likelihood.standard_error))
            figures |= text_scores(written, text.copied(written.texts), text.source)
            judged[name] = Judged(saved, figures, written.texts[: evaluation.shown])
        if not judged:
            raise UserError(f"{folder.path}: none of its checkpoints can be read")
    real_figures = source_likelihood(text, run.tokenizer) | text_scores(real, text.copied(real.texts), text.source)
    columns = {name: one.figures for name, one in judged.items()} | {REAL: real_figures}
    scores = _table(columns, run.config, text, count)
    _report(folder, run, text, scores, judged)
    return Evaluation(scores, {name: one.shown for name, one in judged.items()})


def source_likelihood(text: HeldOutText, tokenizer: AnyTokenizer) -> Figures:
    """The test text's NLL under the source that drew it: the least that any model can expect.

    Known for the grammar and the oracle, and comparable only where no text was cut off; otherwise empty.
    """
    targets = text.test.targets
    if text.source is None or text.test.truncated_targets:
        return {}
    if isinstance(text.source, PCFG):
        nats = -np.array([text.source.log_prob(tokenizer.decode(targets[i].tolist())) for i in range(len(targets))])
    else:
        nats = -text.source.log_prob(targets.tokens.reshape(len(targets), -1))
    return _likelihood_figures(ratio_of_sums(nats, np.diff(targets.offsets)))


def _likelihood_figures(nll: Estimate) -> Figures:
    """Held-out NLL, and its exponential with the error that goes with it."""
    if nll.value is None:
        return {}
    perplexity = math.exp(min(nll.value, 700.0))
    error = None if nll.error is None else perplexity * nll.error
    return {("held-out NLL", "nats/token"): nll, ("held-out perplexity", "per token"): Estimate(perplexity, error)}


def _real_texts(test: TokenisedSplit, tokenizer: AnyTokenizer, wanted: int) -> Written:
    """The first test texts, as many as are wanted and there are, in the form of a sample."""
    batch = next(evaluation_batches(test, min(wanted, len(test))))
    tokens, mask = np.asarray(batch.target), np.asarray(batch.target_mask)
    texts = [tokenizer.decode(row[kept].tolist()) for row, kept in zip(tokens, mask, strict=True)]
    return Written(texts, tokens, mask)


def _table(columns: dict[str, Figures], config: Config, text: HeldOutText, count: int) -> list[Score]:
    evaluation, test = config.evaluation, text.test
    split = {"test": "test", "valid": "validation"}[text.split]
    drawn = f"{count} samples, temperature {evaluation.temperature:g}"
    drawn += f", top-k {evaluation.top_k}" if evaluation.top_k else ""
    drawn += f", top-p {evaluation.top_p:g}" if evaluation.top_p < 1 else ""
    drawn += f", seed {config.seed}"
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


def _report(folder: RunFolder, run: Writer, text: HeldOutText, scores: list[Score], judged: dict[str, Judged]) -> None:
    records = read_metrics(folder.path)
    before = judged.get("likelihood")
    after = next((one for name, one in judged.items() if name.startswith("adversarial")), None)
    shown = max((len(one.shown) for one in (before, after) if one), default=0)
    prompts = text.test.first_prompts(shown)
    notes = [f"{name}: checkpoint {one.saved.phase}/{one.saved.step}" for name, one in judged.items()]
    notes += [
        "± is one standard error. Real text is held-out text scored as if it were samples; its held-out NLL, where its "
        "source is known, is that of the source itself: the least that any model can reach.",
        *text.notes,
    ]
    write_report(
        folder.path,
        title=run.config.name,
        command=f"python train.py {shlex.quote(str(folder.config_file))} --name {run.config.name}-again",
        config_text=to_yaml(run.config),
        phases=(),
        scores=scores,
        samples=[
            SamplePair(
                before=before.shown[i] if before else None,
                after=after.shown[i] if after else None,
                prompt="" if prompts is None else run.tokenizer.decode(prompts[i]),
            )
            for i in range(shown)
        ],
        alarms=alarms_in(records),
        notes=notes,
    )
