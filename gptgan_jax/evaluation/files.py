"""Text files from any toolkit, measured by the same ruler as a run."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from gptgan_jax.config import EmbedderName, JudgeConfig
from gptgan_jax.data.batches import encode_split
from gptgan_jax.data.corpora import Corpus, Split
from gptgan_jax.data.readers import read_lines
from gptgan_jax.data.tokenizers import Tokenizer, WordTokenizer, fit_tokenizer
from gptgan_jax.errors import UserError
from gptgan_jax.evaluation.judge import judge_from
from gptgan_jax.evaluation.memorisation import TrainingText
from gptgan_jax.evaluation.results import REAL, Column, Evaluation, table_of
from gptgan_jax.evaluation.scores import Ruler, judge_figures, text_figures
from gptgan_jax.evaluation.texts import TextSet
from gptgan_jax.runs.held_out import text_hashes

# Of each text, the tokens that the judge reads; n-grams are of whole texts.
LONGEST = 128
VOCABULARY = 20_000
FEWEST_REFERENCES = 6
FEWEST_SAMPLES = 2


def evaluate_files(
    samples: Path,
    references: Path,
    training: Path | None,
    embedder: EmbedderName,
    seed: int,
    say: Callable[[str], None],
) -> Evaluation:
    """Scores a file of samples against a file of real text, a text a line, words between spaces.

    The references are split by chance into texts to compare with and texts that are scored as if they were samples.
    The judge learns from the training text; without it, from a third of the references that is used for nothing else.

    Args:
        samples: what to score.
        references: real text that the sampled model has not seen.
        training: what it has seen; for the judge, and to count copies.
        embedder: see `judge.judge_from`.
        seed: of the split and of what is trained.
        say: takes one line of news at a time.

    Raises:
        UserError: a file that is missing, empty or too short, samples in another spelling than the references, or
            references that are training text.
    """
    written = _read(samples, FEWEST_SAMPLES, "samples")
    real = _read(references, FEWEST_REFERENCES, "references")
    seen = None if training is None else _read(training, FEWEST_REFERENCES, "training")
    order = np.random.default_rng(seed).permutation(len(real))
    parts = [[real[i] for i in part] for part in np.array_split(order, 2 if seen else 3)]
    compared, scored = parts[:2]
    learned = seen or parts[2]
    notes = [
        "± is one standard error over texts.",
        f"Of the {len(real)} references, {len(compared)} are compared with, {len(scored)} are scored as real text"
        + ("." if seen else f", and {len(learned)} train the judge. With --training the judge has text of its own."),
    ]
    copied = None
    if seen is not None:
        hashes = np.unique(text_hashes(seen))

        def copied(texts: Sequence[str]) -> np.ndarray:
            return np.isin(text_hashes(texts), hashes)

        share = float(copied(real).mean())
        if share > 0.5:
            raise UserError(
                f"{references}: {100 * share:.0f} % of its texts are in {training}; references must be held-out text"
            )
        if share:
            notes.append(f"{100 * share:.1f} % of the references are also in the training text.")
    tokenizer = fit_tokenizer(WordTokenizer(vocab_size=VOCABULARY), Corpus(Split(learned), Split(compared), None))
    assert isinstance(tokenizer, Tokenizer)
    _check_spelling(written, samples, [*learned, *real])
    longest = max(len(text.split()) for text in [*learned, *real, *written]) + 1
    length = min(longest, LONGEST)
    if length < longest:
        notes.append(f"Of texts longer than {LONGEST} words the judge reads, and `length` counts, the first {LONGEST}.")

    def as_set(texts: list[str]) -> TextSet:
        return TextSet(texts, encode_split(Split(texts), tokenizer, length).targets)

    source = f"{len(learned)} {'training texts' if seen else 'of the references'}"
    judge = judge_from(as_set(learned).targets, source, tokenizer.vocabulary, length, JudgeConfig(), embedder, say)
    known = None if copied is None else TrainingText(copied, as_set(learned).targets)
    ruler = Ruler(as_set(compared), known, judge, seed)
    count = min(len(written), len(scored))
    if count < len(written):
        notes.append(f"Of the {len(written)} samples the first {count} are scored: as many as there are real texts.")
    drawn = f"{count} texts"
    columns = {}
    for name, texts in (("samples", written), (REAL, scored)):
        say(f"scoring {name}")
        one = as_set(texts[:count])
        columns[name] = text_figures(one, ruler, drawn) + judge_figures(one, ruler, drawn)
    return Evaluation(
        columns=[Column("samples", str(samples), "as given")],
        scores=table_of(columns),
        shown={"samples": written[:8], REAL: scored[:8]},
        prompts=[],
        notes=notes,
    )


def _read(path: Path, fewest: int, what: str) -> list[str]:
    texts, _ = read_lines(f"--{what}", str(path))
    if len(texts) < fewest:
        raise UserError(f"--{what}: {path} has {len(texts)} text; at least {fewest} are needed, one a line")
    return texts


def _check_spelling(samples: list[str], path: Path, real: list[str]) -> None:
    """Refuses samples of another tokenizer: their words would be unknown, and every score would measure only that."""
    known = {word for text in real for word in text.split()}
    words = [word for text in samples for word in text.split()]
    unknown = [word for word in words if word not in known]
    if len(unknown) > 0.5 * len(words):
        raise UserError(
            f"--samples: {len(unknown)} of the {len(words)} words of {path} (such as {unknown[0]!r}) are in no "
            "reference; samples and references must be spelt by one tokenizer"
        )
