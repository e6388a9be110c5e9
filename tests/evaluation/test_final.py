"""The final judgement: which checkpoints, on which text, with which counts."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
import tokenizers
from tiny import GRAMMAR, tiny_experiment, write_corpus
from tokenizers import decoders, models, pre_tokenizers, trainers

from gptgan_jax.checkpoints.manager import Checkpoints
from gptgan_jax.checkpoints.steps import Saved
from gptgan_jax.data.batches import evaluation_batches
from gptgan_jax.evaluation import subject as subjects
from gptgan_jax.evaluation.candidates import candidates
from gptgan_jax.evaluation.final import _by_one_embedder, evaluate_run
from gptgan_jax.evaluation.results import Column, Evaluation, Score, Sweep
from gptgan_jax.evaluation.scores import FRECHET
from gptgan_jax.evaluation.subject import Subject
from gptgan_jax.evaluation.sweep import sweep_run
from gptgan_jax.generation.texts import Drawing
from gptgan_jax.metrics.estimates import REAL
from gptgan_jax.runs.experiment import Experiment
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.runs.held_out import held_out_of, save_held_out
from gptgan_jax.scoring.held_out_likelihood import HeldOut
from gptgan_jax.sources.grammar import english_scenes
from gptgan_jax.training.phases import build_gan
from gptgan_jax.types import Batch, Params


class Listed:
    """Stands in for Checkpoints, with a given list."""

    def __init__(self, *saved: Saved) -> None:
        self.saved = saved

    def all(self) -> list[Saved]:
        return list(self.saved)

    best, ranked, best_classifier = Checkpoints.best, Checkpoints.ranked, Checkpoints.best_classifier


L4, L6, C7 = Saved("likelihood", 4, 1.0), Saved("likelihood", 6, 2.0), Saved("continued", 7, 1.2)
W8, A10, A12 = Saved("warmup", 8, 0.1), Saved("adversarial", 10, 1.5), Saved("adversarial", 12, 1.7)


@pytest.mark.parametrize(
    ("saved", "judged"),
    [
        ([], {}),
        ([L4, L6], {"likelihood": L4}),
        ([L4, L6, C7], {"likelihood": L4, "continued": C7}),
        ([L4, L6, W8], {"likelihood": L4}),
        ([L4, L6, W8, A10], {"likelihood": L4, "adversarial, best": A10}),
        ([L4, C7, A10, A12], {"likelihood": L4, "continued": C7, "adversarial, best": A10, "adversarial, last": A12}),
        ([A12], {"adversarial, best": A12}),
    ],
)
def test_the_best_of_each_phase_is_judged_and_the_last_where_it_is_another(saved: list, judged: dict) -> None:
    found = candidates(Listed(*saved))
    assert {candidate.name: candidate.saved for candidate in found} == judged
    assert [candidate.chosen for candidate in found] == [
        "last of its phase" if "last" in name else "least validation loss of its phase" for name in judged
    ]


def test_the_classifier_is_the_checkpoint_of_least_class_error_in_whichever_phase() -> None:
    w8, w9, a10 = Saved("warmup", 8, None, 0.3), Saved("warmup", 9, None, 0.2), Saved("adversarial", 10, 1.5, 0.2)
    found = {candidate.name: candidate.saved for candidate in candidates(Listed(L4, w8, w9, a10))}
    assert found == {"likelihood": L4, "adversarial, best": a10, "classifier": w9}
    better = Saved("adversarial", 12, 1.7, 0.1)
    found = {candidate.name: candidate.saved for candidate in candidates(Listed(L4, w8, w9, a10, better))}
    assert found["classifier"] == found["adversarial, last"] == better


class Judged(NamedTuple):
    """An evaluation of an untrained generator, thorough, and the targets that its likelihood was asked of."""

    evaluation: Evaluation
    experiment: Experiment
    folder: RunFolder
    seen: np.ndarray


def untrained(folder: Path, keys: dict[str, Any]) -> tuple[Experiment, RunFolder]:
    """A run with one checkpoint, of the generator as it begins."""
    experiment, run_folder = tiny_experiment(folder, keys)
    save_held_out(run_folder.path, held_out_of(experiment))
    run_folder.create(experiment.config, experiment.tokenizer)
    gan = build_gan(experiment.config, "likelihood", experiment.generator, experiment.discriminator)
    with Checkpoints(run_folder.checkpoints) as checkpoints:
        checkpoints.save("likelihood", jax.jit(gan.init)(jax.random.key(0), experiment.example_batch()), 2.0)
    return experiment, run_folder


def silently(line: str) -> None:
    """Takes no notice of a line."""


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    experiment, folder = untrained(tmp_path_factory.mktemp("final"), {"evaluation.samples": 10})
    real = subjects.likelihood_of
    seen: list[np.ndarray] = []

    def noting(generator: object) -> object:
        evaluate = real(generator)

        def inner(params: Params, batches: Iterable[Batch], drawing: Drawing) -> HeldOut:
            batches = list(batches)
            seen.extend(np.asarray(batch.target)[np.asarray(batch.target_mask).any(axis=1)] for batch in batches)
            return evaluate(params, batches, drawing)

        return inner

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subjects, "likelihood_of", noting)
        evaluation = evaluate_run(folder, silently)
    return Judged(evaluation, experiment, folder, np.concatenate(seen))


def row(evaluation: Evaluation, name: str) -> Score:
    return next(score for score in evaluation.scores if score.name == name)


def test_its_likelihood_is_of_the_test_text_all_of_it_and_of_nothing_else(judged: Judged) -> None:
    experiment = judged.experiment
    expected = np.asarray(next(evaluation_batches(experiment.test, len(experiment.test))).target)
    np.testing.assert_array_equal(judged.seen, expected)
    training = {tuple(experiment.train.targets[i].tolist()) for i in range(len(experiment.train))}
    assert not any(tuple(t[t != experiment.tokenizer.vocabulary.pad_id].tolist()) in training for t in expected)


def test_held_out_text_that_is_training_text_is_labelled_in_the_signature(tmp_path: Path) -> None:
    """Every line is training, validation and test text at once."""
    text = str(write_corpus(tmp_path / "all.txt"))
    keys = {"data.train": text, "data.valid": text, "data.test": text, "evaluation.samples": 10}
    _, folder = untrained(tmp_path, keys)
    evaluation = evaluate_run(folder, silently, thorough=False)
    assert (
        row(evaluation, "held-out NLL").signature
        == "60 test texts, T=6, temperature 1, 100 % OF THEM IN THE TRAINING TEXT"
    )
    assert any("60 of its 60 documents are also in data.train" in note for note in evaluation.notes)


def test_samples_are_as_many_as_the_real_texts_beside_them(judged: Judged) -> None:
    assert (len(judged.experiment.valid), len(judged.experiment.test)) == (10, 12)
    assert row(judged.evaluation, "distinct-1").signature == "10 texts, temperature 1, the run's seed; words"


def test_every_score_says_what_it_was_measured_with(judged: Judged) -> None:
    assert all(score.signature for score in judged.evaluation.scores)
    assert row(judged.evaluation, "held-out NLL").signature == "12 test texts, T=6, temperature 1"
    assert "12 references, words, method1" in row(judged.evaluation, "BLEU-4").signature


def test_real_text_stands_beside_every_score_but_a_likelihood_that_nobody_knows(judged: Judged) -> None:
    for score in judged.evaluation.scores:
        assert (REAL in score.values) != score.name.startswith("held-out"), score.name
    lengths = [len(judged.experiment.valid.targets[i]) for i in range(10)]
    assert row(judged.evaluation, "length").values[REAL].value == pytest.approx(np.mean(lengths))


def test_references_and_real_text_share_no_text(judged: Judged, tmp_path: Path) -> None:
    """Also where there is no test text, and the validation text is split."""
    corpus = str(write_corpus(tmp_path / "valid.txt", 21))
    _, folder = untrained(tmp_path, {"data.valid": corpus})
    for run_folder, sizes in ((judged.folder, (12, 10)), (folder, (11, 10))):
        subject = Subject(run_folder, silently)
        assert (len(subject.reference_texts), len(subject.real_texts)) == sizes
        assert not set(subject.reference_texts.texts) & set(subject.real_texts.texts)


def test_an_evaluation_leaves_the_checkpoints_as_they_are(judged: Judged) -> None:
    assert [child.name for child in (judged.folder.checkpoints / "likelihood").iterdir()] == ["0"]
    assert judged.evaluation.columns == [Column("likelihood", "likelihood/0", "least validation loss of its phase")]
    assert list(judged.evaluation.shown) == ["likelihood", REAL]
    assert len(judged.evaluation.shown["likelihood"]) == judged.experiment.config.evaluation.shown


def test_a_quick_evaluation_keeps_a_thorough_one_of_the_same_checkpoints(judged: Judged) -> None:
    assert any(score.name == "MAUVE" for score in judged.evaluation.scores)
    assert evaluate_run(judged.folder, silently, thorough=False) == judged.evaluation
    assert Evaluation.load(judged.folder.path) == judged.evaluation


# ---- a source of known probabilities


@pytest.mark.thorough
@pytest.mark.cases(1)
@pytest.mark.parametrize("kind", ["grammar", "oracle"])
def test_against_its_own_source_real_text_has_no_divergence(kind: str, tmp_path: Path) -> None:
    lengths = {"data.max_length": 25 if kind == "grammar" else 6, "generator.max_positions": 32}
    sizes = {"data.train_size": 30, "data.valid_size": 30, "data.test_size": 30, "evaluation.samples": 30}
    keys = {"data.kind": kind, "data.valid_fraction": None, "data.test_fraction": None} | lengths | sizes
    if kind == "oracle":
        keys |= {"data.vocab_size": 20, "data.hidden": 4}
    _, folder = untrained(tmp_path, keys)
    evaluation = evaluate_run(folder, silently, thorough=False)
    for name in ("forward KL", "reverse KL", "forward + reverse KL", "Jensen-Shannon divergence"):
        assert row(evaluation, name).values[REAL].value == 0.0
    forward = row(evaluation, "forward KL").values["likelihood"].value
    nll = row(evaluation, "held-out NLL").values
    tokens = len(np.concatenate([Subject(folder, silently).text.test.targets[i] for i in range(30)])) / 30
    expected = (nll["likelihood"].value - nll[REAL].value) * tokens
    assert forward == pytest.approx(expected, rel=1e-6), "E_p[log p - log q], from the two likelihoods"
    jensen_shannon = row(evaluation, "Jensen-Shannon divergence").values["likelihood"].value
    assert 0 < jensen_shannon <= np.log(2)
    if kind == "grammar":
        assert row(evaluation, "reverse KL").values["likelihood"].value == np.inf
        assert row(evaluation, "grammatical").values[REAL].value == 1.0
    else:
        assert np.isfinite(row(evaluation, "reverse KL").values["likelihood"].value)


def test_without_the_grammars_spelling_its_metrics_are_left_out_with_a_note(tmp_path: Path) -> None:
    """WordPiece joins a full stop to the word before it."""
    backend = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece(cleanup=True)
    words = trainers.WordPieceTrainer(vocab_size=400, special_tokens=["[PAD]", "[UNK]", "<s>", "</s>"])
    backend.train_from_iterator(english_scenes().sample(np.random.default_rng(0), 90), words)
    backend.save(str(tmp_path / "tokenizer.json"))
    special = {"eos_token": "</s>", "bos_token": "<s>", "pad_token": "[PAD]", "unk_token": "[UNK]"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(special))
    sizes = {"data.train_size": 60, "data.valid_size": 30, "data.test_size": 30, "evaluation.samples": 30}
    keys = GRAMMAR | sizes | {"data.max_length": 60, "generator.max_positions": 64}
    keys |= {"tokenizer.kind": "file", "tokenizer.path": str(tmp_path / "tokenizer.json")}
    _, folder = untrained(tmp_path, keys)
    evaluation = evaluate_run(folder, silently, thorough=False)
    assert {score.name for score in evaluation.scores}.isdisjoint({"forward KL", "grammatical", "rule coverage"})
    assert REAL not in row(evaluation, "held-out NLL").values
    assert row(evaluation, "BLEU-2").values[REAL].value > 0
    (note,) = (note for note in evaluation.notes if "as the tokenizer spells them" in note)
    assert re.match(r"\d+ of 60 held-out texts are no sentences of the grammar .* so what is measured by", note)
    swept = sweep_run(folder, silently).sweep
    assert swept is not None
    assert {axes.quality for axes in swept.axes} == {"BLEU-4", "LM score"}


POEMS = [a + b + c + "，" + c + a + "。" for a in "明清晚春" for b in "月风云雨" for c in "山水花"]


@pytest.mark.cases(1)
@pytest.mark.parametrize(("asked", "unit"), [("auto", "characters"), ("word", "words")])
def test_a_run_on_text_without_spaces_is_measured_by_characters(asked: str, unit: str, tmp_path: Path) -> None:
    (tmp_path / "poems.txt").write_text("\n".join(POEMS), encoding="utf-8")
    keys = {"data.train": str(tmp_path / "poems.txt"), "tokenizer.kind": "bpe", "tokenizer.vocab_size": 300}
    _, folder = untrained(tmp_path, {**keys, "data.max_length": 12, "evaluation.unit": asked})
    evaluation = evaluate_run(folder, silently, thorough=False)
    scores = {score.name: score for score in evaluation.scores}
    for name in ("BLEU-2", "Self-BLEU-4", "distinct-2"):
        assert unit in scores[name].signature
    assert f"held-out perplexity by {unit[:-1]}" in scores
    assert (scores["BLEU-2"].values[REAL].value > 0.3) == (unit == "characters")
    assert any("of characters" in note for note in evaluation.notes) == (unit == "characters")


def test_english_text_is_measured_by_words_without_a_note(judged: Judged) -> None:
    signatures = [score.signature for score in judged.evaluation.scores if score.name.startswith(("BLEU", "distinct"))]
    assert signatures
    assert all("words" in signature for signature in signatures)
    assert not any("character" in note for note in judged.evaluation.notes)


@pytest.mark.parametrize(("ends", "kept"), [(("a", "a"), True), (("a", "b"), False), (("a",), True), ((), True)])
def test_a_sweep_by_another_embedder_than_the_table_is_dropped(ends: tuple[str, ...], kept: bool) -> None:
    signatures = [f"9 texts; 9 of them against 9 references; embedder {end}" for end in ends]
    scores = [Score(FRECHET, "", signature, "lower", {}) for signature in signatures[:1]]
    table = Evaluation([], scores, {}, [], [])
    sweep = Sweep([], [], {}, {FRECHET: signatures[1]} if signatures[1:] else {})
    assert _by_one_embedder(sweep, table) == kept
    assert _by_one_embedder(None, table)
