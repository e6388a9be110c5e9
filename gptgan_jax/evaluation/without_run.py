"""Scores text files from any toolkit, and unmodified Hugging Face models, with the metrics of a run."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gptgan_jax.config import EmbedderName, JudgeConfig
from gptgan_jax.config.checking import config_from
from gptgan_jax.config.files import override, with_absolute_paths
from gptgan_jax.data.corpora import Corpus, Split, counted
from gptgan_jax.data.encoding import Ragged, encode_split
from gptgan_jax.data.tokenizers import (
    Tokenizer,
    WordTokenizer,
    fit_tokenizer,
    load_tokenizer,
    read_tokenizer,
)
from gptgan_jax.errors import UserError
from gptgan_jax.evaluation.final import evaluate_run
from gptgan_jax.evaluation.memorisation import TrainingText
from gptgan_jax.evaluation.results import Column, Evaluation, table_of
from gptgan_jax.evaluation.scores import Ruler, judge_figures, text_figures
from gptgan_jax.generation.texts import TextSet
from gptgan_jax.metrics.estimates import REAL
from gptgan_jax.readers.documents import read_texts
from gptgan_jax.readers.files import format_of, matching_files, utf8_lines
from gptgan_jax.readers.row_sources import open_rows
from gptgan_jax.runs.experiment import load_experiment
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.runs.held_out import held_out_of, save_held_out, text_hashes
from gptgan_jax.runs.start import save_start
from gptgan_jax.schema.yaml_files import read_yaml
from gptgan_jax.scoring.judge import judge_from
from gptgan_jax.tokenization.units import Unit, UnitName, plural, unit_for, unit_notes, units_of

# The sections of a config that determine the text and the settings of a model's evaluation.
SECTIONS = ("data", "evaluation", "seed")
# The most tokens of a text that the language model reads; n-grams use whole texts.
LONGEST = 128
VOCABULARY = 20_000
FEWEST_REFERENCES = 6
FEWEST_SAMPLES = 2
# The column of texts in files of rows, the first that is there: as `gptgan sample` and `gptgan data` write them.
COLUMNS = {"samples": ("response", "text"), "references": ("text", "response", "answer")}


def evaluate_files(
    samples: Path,
    references: Path,
    training: Path | None,
    embedder: EmbedderName,
    seed: int,
    say: Callable[[str], None],
    unit: UnitName = "auto",
    tokenizer_path: Path | None = None,
) -> Evaluation:
    """Scores a file of samples against a file of real text: one text per line, or rows with a column of texts.

    A token is a word between spaces; a character, if the references have no spaces between words; or a token of the
    given tokenizer. A blank line of the samples is an empty text and is scored; blank lines of the other files are left
    out.

    The references are split at random into texts to compare with and texts that are scored as if they were samples.
    The judge is trained on the training text, or without one on a third of the references, which is used for nothing
    else.

    Args:
        samples: the texts to score.
        references: real text that the sampled model has not seen.
        training: the model's training text; for the judge, and to count copies.
        embedder: see `judge.judge_from`.
        seed: of the split and of the trained models.
        say: called with one line of progress at a time.
        unit: of n-grams and tokens; auto: words or characters, depending on the references.
        tokenizer_path: a run folder or a tokenizer.json, for the unit token.

    Raises:
        UserError: a file that is missing, empty or too short, samples that are tokenised differently from the
            references, or references that are training text.
    """
    written = _read_samples(samples)
    blank = sum(not text for text in written)
    real, skipped = _read(references, FEWEST_REFERENCES, "references")
    seen, more_skipped = (None, []) if training is None else _read(training, FEWEST_REFERENCES, "training")
    own = None if tokenizer_path is None else _read_tokenizer(tokenizer_path)
    of_text = unit_for(unit, real, tokens=None if own is None else own.as_unit)
    order = np.random.default_rng(seed).permutation(len(real))
    parts = [[real[i] for i in part] for part in np.array_split(order, 2 if seen else 3)]
    compared, scored = parts[:2]
    learned = seen or parts[2]
    notes = [
        "± is one standard error over texts.",
        *([f"{blank} of the {len(written)} samples are blank: each is scored as an empty text."] if blank else []),
        *skipped,
        *more_skipped,
        *unit_notes(unit, of_text, "--unit", "N-grams and tokens are"),
        f"{len(compared)} of the {len(real)} references are compared with, {len(scored)} are scored as real text"
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
    tokenizer = own or fit_tokenizer(
        WordTokenizer(vocab_size=VOCABULARY),
        Corpus(Split(_spelt(learned, of_text)), Split(_spelt(compared, of_text)), None),
    )
    assert isinstance(tokenizer, Tokenizer)

    def spelt(texts: list[str]) -> list[str]:
        return texts if own is not None else _spelt(texts, of_text)

    _check_spelling(written, samples, scored, [*learned, *compared], of_text)
    longest = max(map(len, units_of([*learned, *real, *written], of_text))) + 1
    length = min(longest, LONGEST)
    if length < longest:
        notes.append(
            f"Some texts are longer than {LONGEST} {plural(of_text)}: the language model reads, and `length` counts, "
            "no more of them."
        )

    def as_set(texts: list[str]) -> TextSet:
        return TextSet(texts, _targets(spelt(texts), tokenizer, length))

    source = f"{len(learned)} {'training texts' if seen else 'of the references'}"
    judge = judge_from(as_set(learned).targets, source, tokenizer.vocabulary, length, JudgeConfig(), embedder, say)
    known = None if copied is None else TrainingText(copied, as_set(learned).targets)
    ruler = Ruler(as_set(compared), known, judge, seed, of_text)
    count = min(len(written), len(scored))
    if count < len(written):
        notes.append(f"The first {count} of the {len(written)} samples are scored: as many as there are real texts.")
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


def _read_samples(path: Path) -> list[str]:
    """The texts of a file, or of all files that match a glob; a blank one is an empty text."""
    texts = _texts("samples", path)
    if len(texts) < FEWEST_SAMPLES:
        raise UserError(f"--samples: {path} has {len(texts)} text; at least {FEWEST_SAMPLES} are needed, one per line")
    return texts


def _read(path: Path, fewest: int, what: str) -> tuple[list[str], list[str]]:
    """The texts of a file of real text, and a note on its blank lines if it has any."""
    every = _texts(what, path)
    texts = list(filter(None, every))
    if len(texts) < fewest:
        raise UserError(f"--{what}: {path} has {len(texts)} text; at least {fewest} are needed, one per line")
    blank = len(every) - len(texts)
    return texts, [f"{counted(blank, 'blank line')} of {path} left out."] if blank else []


def _texts(what: str, path: Path) -> list[str]:
    """The stripped lines of text files, or cells of the text column of rows, "" for blank ones.

    Raises:
        UserError: no such file, one that can't be read, or no text at all.
    """
    texts: list[str] = []
    for file in matching_files(f"--{what}", str(path)):
        if (form := format_of(file)) is None:
            texts += map(str.strip, utf8_lines(file))
            continue
        where = f"--{what}: {file}"
        rows = open_rows(where, form, None, file, where, False)
        there, names = rows.columns(), COLUMNS.get(what, COLUMNS["references"])
        column = next((name for name in names if name in there), "text")
        texts += map(str.strip, read_texts(rows, column, blank=True))
    if not any(texts):
        raise UserError(f"--{what}: {path} is empty; it should hold one document a line")
    return texts


def _read_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a run, or of a tokenizer.json."""
    folder = next((one for one in (path / "tokenizer", path) if one.is_dir()), None)
    tokenizer = read_tokenizer(path) if folder is None else load_tokenizer(folder)
    if not isinstance(tokenizer, Tokenizer):
        raise UserError(f"--tokenizer: {path} is of an oracle's ids, which are no text; drop it and --unit token")
    return tokenizer


def _spelt(texts: Sequence[str], unit: Unit) -> list[str]:
    """Each text with its units separated by spaces, so that a word-level tokenizer makes each a token."""
    return [" ".join(units) for units in units_of(texts, unit)]


def _targets(texts: Sequence[str], tokenizer: Tokenizer, length: int) -> Ragged:
    """Token ids of each text, truncated to `length`; one that is empty, or has no token, has only its end."""
    filled = [i for i, text in enumerate(texts) if text]
    encoded = encode_split(Split([texts[i] for i in filled]), tokenizer, length)
    if encoded.empty_documents:  # which it leaves out
        ids = tokenizer.encode_batch([texts[i] for i in filled])
        filled = [i for i, own in zip(filled, ids, strict=True) if own]
    if len(filled) == len(texts):
        return encoded.targets
    assert tokenizer.vocabulary.eos_id is not None
    rows = [np.array([tokenizer.vocabulary.eos_id], np.int32)] * len(texts)
    for row, i in enumerate(filled):
        rows[i] = encoded.targets[row]
    return Ragged(np.concatenate(rows), np.cumsum([0, *map(len, rows)]))


def _check_spelling(samples: list[str], path: Path, held_out: list[str], others: list[str], unit: Unit) -> None:
    """Refuses samples from another tokenizer: their words would be unknown, and every score would measure only that.

    They are refused if most of their words are in no real text, while real text's own share of known words is more than
    twice as large: in a language with many word forms, most words of any new text are new.
    """
    known = {word for words in units_of(others, unit) for word in words}
    own = [word in known for words in units_of(held_out, unit) for word in words]
    known |= {word for words in units_of(held_out, unit) for word in words}
    words = [word for words in units_of(samples, unit) for word in words]
    unknown = [word for word in words if word not in known]
    if len(unknown) > 0.5 * len(words) and 2 * (len(words) - len(unknown)) / len(words) < np.mean(own):
        raise UserError(
            f"--samples: {len(unknown)} of the {len(words)} {plural(unit)} of {path} (such as {unknown[0]!r}) are in "
            "no reference; samples and references must be spelt by one tokenizer"
        )


def evaluate_model(name: str, file: Path, overrides: Sequence[str], say: Callable[[str], None]) -> Evaluation:
    """Scores an unmodified Hugging Face model on a config's held-out text, like a run that starts from it.

    Args:
        name: hf:FOLDER, gguf:FILE or hub:NAME.
        file: the config; its networks, tokenizer and training are ignored.
        overrides: overrides of its text and evaluation settings.
        say: called with one line of progress at a time.

    Raises:
        UserError: no such model or config, or text that can't be read.
    """
    raw: dict[str, Any] = {key: value for key, value in read_yaml(file).items() if key in SECTIONS}
    override(raw, overrides)
    if others := sorted(set(raw) - set(SECTIONS)):
        raise UserError(f"--{others[0]} has no effect on a pre-trained model; give keys of {', '.join(SECTIONS)}")
    with tempfile.TemporaryDirectory() as place:
        raw |= {"name": "model", "runs_folder": place, "init_from": name}
        config = with_absolute_paths(config_from(raw, str(file)))
        experiment = load_experiment(config)
        for note in experiment.notes:
            say(f"note: {note}")
        folder = RunFolder.of(config)
        assert experiment.start is not None
        save_start(folder.checkpoints_of(config), experiment.start.params())
        save_held_out(folder.path, held_out_of(experiment))
        folder.create(config, experiment.tokenizer, experiment.corpus.classes)
        return evaluate_run(folder, say)
