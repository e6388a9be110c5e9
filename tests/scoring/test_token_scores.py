"""A discriminator's score token by token: what it is of, where it may be asked for, and what a user gets of it."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from helpers import random_params
from reported import check_self_contained
from tiny import GRAMMAR, tiny_experiment, train_tiny

from gptgan_jax.checkpoints.manager import Checkpoints
from gptgan_jax.cli import main
from gptgan_jax.config import LIKELIHOOD
from gptgan_jax.data.batches import evaluation_batches
from gptgan_jax.data.corpora import Split
from gptgan_jax.data.encoding import encode_split
from gptgan_jax.errors import UserError
from gptgan_jax.evaluation.results import Evaluation
from gptgan_jax.metrics.error_places import BY_CHANCE, BY_SCORE, BY_SURPRISE, PLACED, changes
from gptgan_jax.metrics.estimates import REAL
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.runs.held_out import held_out_of, save_held_out
from gptgan_jax.runs.trained import load_writer
from gptgan_jax.scoring.held_out_likelihood import likelihood_of
from gptgan_jax.scoring.token_scores import Detector, load_detector, problem_of_discriminator
from gptgan_jax.sources.grammar import english_scenes
from gptgan_jax.training.phases import build_gan

MARKUP = ["<b>bold</b> & <script>alert(1)</script>", "שלום עולם 🙂 漢字", 'a "quoted" |line| *star*']


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on the grammar, whose texts are hardly ever grammatical."""
    return train_tiny(tmp_path_factory.mktemp("grammar"), GRAMMAR)


def saved_once(folder: Path, keys: dict[str, Any], phase: Any = "warmup") -> RunFolder:
    """A run with one checkpoint, of both players as they begin."""
    experiment, run_folder = tiny_experiment(folder, keys)
    save_held_out(run_folder.path, held_out_of(experiment))
    run_folder.create(experiment.config, experiment.tokenizer, experiment.corpus.classes)
    gan = build_gan(experiment.config, "likelihood", experiment.generator, experiment.discriminator)
    with Checkpoints(run_folder.checkpoints) as checkpoints:
        state = jax.jit(gan.init)(jax.random.key(0), experiment.example_batch())
        if phase not in LIKELIHOOD:
            state = build_gan(experiment.config, phase, experiment.generator, experiment.discriminator).begin(
                state, experiment.example_batch()
            )
        checkpoints.save(phase, state, 2.0)
    return run_folder


@pytest.fixture(scope="module")
def marked_up(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with bytes for tokens, on text that is markup or from right to left."""
    folder = tmp_path_factory.mktemp("markup")
    (folder / "markup.txt").write_text("\n".join(MARKUP * 8) + "\n", encoding="utf-8")
    keys: dict[str, Any] = {f"data.{which}": str(folder / "markup.txt") for which in ("train", "valid", "test")}
    keys |= {"tokenizer": {"kind": "bpe", "vocab_size": 280}}
    return saved_once(
        folder, keys | {"data.max_length": 60, "generator.max_positions": 64, "objective.dense": False}
    ).path


def detector_of(path: Path) -> Detector:
    folder = RunFolder(path)
    with Checkpoints(folder.checkpoints, read_only=True) as checkpoints:
        return load_detector(folder, checkpoints, load_writer(folder))


@pytest.mark.thorough
def test_the_score_at_a_token_is_that_of_the_text_cut_off_behind_it(run: Path) -> None:
    detector = detector_of(run)
    texts = english_scenes().sample(np.random.default_rng(3), 5)
    split = encode_split(Split(texts), detector.run.tokenizer, 25)
    whole = detector.score(split, detector.writer)
    for text, one in zip(texts, whole, strict=True):
        assert one.score == pytest.approx(one.scores[-1], abs=1e-5)
        assert one.start == 0
        assert len(one.scores) == len(one.pieces) == len(text.split()) + 1
        for count in (1, 4):
            cut = encode_split(Split([text]), detector.run.tokenizer, count)
            assert detector.score(cut)[0].score == pytest.approx(one.scores[count - 1], abs=1e-5)
    likelihood = likelihood_of(detector.run.generator)
    nats = likelihood(detector.writer, evaluation_batches(split, 5)).nats
    np.testing.assert_allclose([-one.log_probs.sum() for one in whole if one.log_probs is not None], nats, rtol=1e-5)


def test_where_a_loss_fixes_only_differences_the_first_change_is_from_the_empty_text(tmp_path: Path) -> None:
    keys = {"objective.pair_loss": "relativistic"}
    detector = detector_of(saved_once(tmp_path, keys).path)
    detector = replace(detector, params=random_params(detector.params))
    split = encode_split(Split(["two cats run", "dogs sing"]), detector.run.tokenizer, 6)
    (first, second) = detector.score(split)
    assert first.start == second.start != 0
    assert any("no probability can be read off it" in note for note in detector.notes)


@pytest.mark.parametrize(
    ("keys", "window"),
    [
        ({"objective.window": 2}, 2),
        (
            {
                "discriminator": {
                    "kind": "transformer", "layers": 1, "width": 8, "heads": 2, "max_positions": 32, "surprisal": 9.0
                },
                "objective.pair_loss": "hinge",
                "objective.reward": "logit",
            },
            1,
        ),
    ],
)  # fmt: skip
def test_scores_that_begin_anew_are_compared_within_a_window(
    tmp_path: Path, keys: dict[str, Any], window: int, capsys: pytest.CaptureFixture
) -> None:
    """A window is scored as a text of its own: so are the changes that its tokens make."""
    folder = saved_once(tmp_path, keys).path
    detector = detector_of(folder)
    split = encode_split(Split(["two cats run here"]), detector.run.tokenizer, 6)
    (one,) = detector.score(split)
    steps = changes(one.scores, one.start, one.window)
    assert one.fall == int(steps.argmin())
    for begin in range(0, len(one.scores), window):
        assert steps[begin] == pytest.approx(one.scores[begin] - one.start)
    assert any("scored separately (objective.window)" in note or "its own surprisal" in note for note in detector.notes)
    (tmp_path / "texts.txt").write_text("two cats run here\n")
    assert main(["score", str(folder), str(tmp_path / "texts.txt")]) == 0
    assert json.loads(capsys.readouterr().out)["probability"] is None


@pytest.mark.thorough
def test_lines_of_a_file_are_scored_and_the_first_wrong_token_is_named(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    texts = ["the farmer was near the old gate .", "the farmer were near the old gate .", "the farmer was"]
    (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n")
    assert main(["score", str(run), str(tmp_path / "texts.txt")]) == 0
    output = capsys.readouterr()
    lines = [json.loads(line) for line in output.out.splitlines()]
    assert [line["text"] for line in lines] == texts
    grammatical = [english_scenes().log_prob(text) > -np.inf for text in texts]
    assert grammatical == [line["first_ungrammatical"] is None for line in lines]
    assert [line["first_ungrammatical"] for line in lines][1:] == [2, 3]
    for line in lines:
        assert "".join(token["token"] for token in line["tokens"]) == line["text"] + "<eos>"
        assert line["probability"] == pytest.approx(1 / (1 + np.exp(-line["score"])), abs=1e-5)
        assert line["score"] == pytest.approx(line["tokens"][-1]["score"], abs=1e-5)
        assert all(token["log_prob"] < 0 for token in line["tokens"])
    assert "too few to say how often it is found" in output.err


def test_a_text_that_is_too_long_is_cut_with_a_note_that_counts(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "texts.txt").write_text("the farmer was near " * 10 + "\nthe farmer was near .\n")
    assert main(["score", str(run), str(tmp_path / "texts.txt"), "--out", str(tmp_path / "out.jsonl")]) == 0
    assert "note: 1 document cut off at 25 tokens" in capsys.readouterr().out
    first, _ = (json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines())
    assert len(first["tokens"]) == 25
    assert first["tokens"][-1]["token"] != "<eos>"


def test_samples_are_those_of_the_checkpoint_and_errors_in_them_are_located(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "new" / "out.jsonl"
    assert main(["score", str(run), "--samples", "70", "--seed", "5", "--out", str(out)]) == 0
    table = capsys.readouterr().out
    assert main(["sample", str(run), "--num", "70", "--seed", "5"]) == 0
    written = [json.loads(line)["text"] for line in out.read_text().splitlines()]
    assert [text.strip() for text in written] == capsys.readouterr().out.splitlines()
    wrong = [json.loads(line)["first_ungrammatical"] for line in out.read_text().splitlines()]
    assert sum(place is not None for place in wrong) >= 50
    for name in (BY_SCORE, BY_SURPRISE, BY_CHANCE):
        assert name in table
        assert "–" not in next(line for line in table.splitlines() if name in line)


def test_the_evaluation_and_the_report_of_a_run_locate_errors(run: Path) -> None:
    evaluation = Evaluation.load(run)
    assert evaluation is not None
    scores = {score.name: score for score in evaluation.scores}
    for name in (PLACED, BY_SCORE, BY_SURPRISE, BY_CHANCE):
        assert {"likelihood", "adversarial, best"} <= set(scores[name].values)
        assert REAL not in scores[name].values
    assert [text.column for text in evaluation.scored] == ["adversarial, best"] * 3
    assert all(len(text.tokens) == len(text.scores) for text in evaluation.scored)
    page = check_self_contained((run / "report.html").read_text(encoding="utf-8"))
    assert "The discriminator, token by token" in page.of("h2")
    assert "token by token" in (run / "report.md").read_text(encoding="utf-8")


def test_a_page_shows_markup_and_every_script_literally(
    marked_up: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(MARKUP) + "\n", encoding="utf-8")
    page = tmp_path / "page.html"
    assert main(["score", str(marked_up), str(tmp_path / "texts.txt"), "--html", str(page)]) == 0
    output = capsys.readouterr()
    assert [json.loads(line)["text"] for line in output.out.splitlines()] == MARKUP
    assert "first_ungrammatical" not in output.out
    assert "learned from whole texts (objective.dense false)" in output.err
    shown = check_self_contained(page.read_text(encoding="utf-8"))
    together = "".join(text for _, text in shown.texts)
    assert "script" not in shown.tags
    for text in MARKUP:
        assert text.replace(" ", "") in together.replace(" ", "")
    assert any("learned from whole texts" in text for text in shown.of("li"))


def test_rows_have_the_prompts_that_the_answers_are_scored_with(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    rows = [("two cats", "run here"), ("dogs", "sing"), ("two birds", "eat now")] * 6
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("asked", "said"), *rows])
    keys: dict[str, Any] = {
        "data.kind": "hf",
        "data.path": "csv",
        "data.valid_fraction": None,
        "data.test_fraction": None,
    }
    keys |= {f"data.{which}": str(tmp_path / "rows.csv") for which in ("train", "valid", "test")}
    keys |= {"data.text_column": "said", "data.prompt_column": "asked", "warmup.steps": 2}
    folder = saved_once(tmp_path, keys).path
    assert main(["score", str(folder), str(tmp_path / "rows.csv")]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["prompt"], line["text"]) for line in lines] == rows
    responses = tmp_path / "responses.jsonl"
    responses.write_text("".join(json.dumps({"prompt": p, "response": r}) + "\n" for p, r in rows))
    assert main(["score", str(folder), str(responses)]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == lines
    other = rows[0][0], rows[1][1]
    responses.write_text(json.dumps({"q": other[0], "a": other[1]}) + "\n")
    given = ["--text-column", "a", "--prompt-column", "q"]
    assert main(["score", str(folder), str(responses), *given]) == 0
    assert json.loads(capsys.readouterr().out)["tokens"] != lines[1]["tokens"]
    for arguments, message in (
        ([str(responses)], "no column"),
        (["--samples", "3"], "--samples is for runs without prompts"),
    ):
        assert main(["score", str(folder), *arguments]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    ("keys", "phase", "message"),
    [
        ({"warmup.steps": 0, "adversarial.steps": 0, "continued.steps": 0}, "likelihood", "was never trained"),
        (
            {"warmup.steps": 0, "adversarial.freeze_discriminator": True},
            "adversarial",
            "was never trained: give it steps with warmup.steps or adversarial.steps",
        ),
        *(
            ({"warmup.steps": 0, "objective.estimator": {"kind": kind}}, "likelihood", f"estimator {kind} needs none")
            for kind in ("spin", "dgsan", "jsdgan", "self_critic", "feature_matching")
        ),
        ({}, "likelihood", "the discriminator of checkpoint likelihood/0 has learned nothing yet"),
    ],
)
def test_a_discriminator_that_has_learned_nothing_is_refused_in_one_line(
    keys: dict[str, Any], phase: Any, message: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = saved_once(tmp_path, keys, phase).path
    (tmp_path / "texts.txt").write_text("two cats run\n")
    assert main(["score", str(folder), str(tmp_path / "texts.txt")]) == 2
    (line,) = [one for one in capsys.readouterr().err.splitlines() if one.startswith("gptgan: ")]
    assert message in line


def test_a_discriminator_of_labels_alone_has_no_score(run: Path, tmp_path: Path) -> None:
    keys = GRAMMAR | {"data.label": "tense", "adversarial.steps": 0}
    keys |= {"objective.classification": {"weight": 1.0, "real_fake_weight": 0.0}}
    folder = saved_once(tmp_path, keys)
    assert "learned labels alone" in (problem_of_discriminator(folder, folder.read_config()) or "")
    with pytest.raises(UserError, match="learned labels alone"):
        detector_of(folder.path)
