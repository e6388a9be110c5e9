"""One small run with classes on the grammar's labelled sentences, and what a user gets of it."""

import json
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from tiny import tiny_experiment, train_tiny

from gptgan_jax.checkpoints.manager import Checkpoints
from gptgan_jax.cli import main
from gptgan_jax.config import Config
from gptgan_jax.evaluation.results import Evaluation
from gptgan_jax.metrics.estimates import REAL
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.runs.records import read_metrics
from gptgan_jax.runs.trained import restore_discriminator, restore_generator
from gptgan_jax.sources.grammar_labels import label_of
from gptgan_jax.training.loop import train
from gptgan_jax.training.phase_run import PhaseRun
from gptgan_jax.training.signals import Interrupted

pytestmark = pytest.mark.thorough  # whole runs; training/test_classes.py has the steps

CLASSES = ("past", "present")
KEYS: dict[str, Any] = {
    "data.kind": "grammar",
    "data.valid_fraction": None,
    "data.test_fraction": None,
    "data.label": "tense",
    "data.label_prompts": True,
    "data.max_length": 25,
    "data.max_prompt_length": 1,
    "data.train_size": 400,
    "data.labelled": 200,
    "data.valid_size": 60,
    "data.test_size": 60,
    "generator.max_positions": 32,
    "discriminator.embedding": 16,
    "objective.dense": False,
    "objective.classification": {"weight": 1.0, "labelled_share": 0.5, "feature_matching_weight": 0.1},
    "continued.steps": 0,
    "likelihood.steps": 10,
    "warmup.steps": 80,
    "warmup.batch_size": 16,
    "warmup.optimizer": {"learning_rate": 0.03},
    "evaluation.every": 20,
    "evaluation.samples": 20,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_tiny(tmp_path_factory.mktemp("home"), KEYS)


def test_the_classifier_learns_and_its_best_checkpoint_is_judged_on_test_text(run: Path) -> None:
    evaluation = Evaluation.load(run)
    assert evaluation is not None
    scores = {score.name: score for score in evaluation.scores}
    accuracy = scores["class accuracy"].values["classifier"]
    assert accuracy.value > 0.8, "the tense of a sentence shows in its verb"
    assert scores["class accuracy"].signature == "60 labelled test texts, 2 classes"
    assert {"class macro-F1", "class NLL", "expected calibration error"} <= set(scores)
    errors = {line["step"]: line["valid_class_error"] for line in read_metrics(run) if "valid_class_error" in line}
    (column,) = [column for column in evaluation.columns if column.name == "classifier"]
    assert errors[int(column.checkpoint.partition("/")[2])] == min(errors.values())
    assert sum(one.count for one in evaluation.reliability) == 60


def test_the_report_has_the_figures_and_the_picture(run: Path) -> None:
    assert "class accuracy" in (run / "report.md").read_text()
    assert (run / "reliability.png").read_bytes().startswith(b"\x89PNG")


def test_real_text_obeys_its_label(run: Path) -> None:
    evaluation = Evaluation.load(run)
    assert evaluation is not None
    scores = {score.name: score.values for score in evaluation.scores}
    assert scores["obeys its label"][REAL].value == 1
    assert 0 <= scores["obeys its label"]["likelihood"].value <= 1


@pytest.mark.parametrize("ending", ["jsonl", "txt"])
def test_a_file_is_classified_line_by_line(run: Path, tmp_path: Path, ending: str, capsys) -> None:
    texts = ["the dog was running .", "the dog is running ."]
    rows = [json.dumps({"text": text, "label": name}) for text, name in zip(texts, CLASSES, strict=True)]
    file = tmp_path / f"texts.{ending}"
    file.write_text("\n".join(texts if ending == "txt" else rows) + "\n")
    capsys.readouterr()
    assert main(["classify", str(run), str(file)]) == 0
    out, err = capsys.readouterr()
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["text"] for line in lines] == texts
    assert [line["label"] for line in lines] == list(CLASSES)
    for line in lines:
        assert set(line["probabilities"]) == set(CLASSES)
        assert sum(line["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert max(line["probabilities"], key=line["probabilities"].get) == line["label"]
    assert ("class accuracy" in err) == (ending == "jsonl")
    assert list(tmp_path.iterdir()) == [file]


def test_classified_texts_go_into_a_file_with_a_picture_beside_it(run: Path, tmp_path: Path, capsys) -> None:
    file, out = tmp_path / "texts.csv", tmp_path / "made" / "told.v1.jsonl"
    file.write_text("text,label\nthe dog was running .,past\nthe cat is small .,\n")
    assert main(["classify", str(run), str(file), "--out", str(out)]) == 0
    assert len(out.read_text().splitlines()) == 2
    assert (tmp_path / "made" / "told.v1-reliability.png").read_bytes().startswith(b"\x89PNG")
    assert "1 labelled given texts" in capsys.readouterr().out


def test_what_a_classifier_says_does_not_change_with_the_label_that_the_file_claims(
    run: Path, tmp_path, capsys
) -> None:
    said = []
    for claimed in CLASSES:
        file = tmp_path / f"{claimed}.jsonl"
        file.write_text(json.dumps({"text": "the dog was running .", "label": claimed}) + "\n")
        capsys.readouterr()
        assert main(["classify", str(run), str(file)]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]


def test_a_generator_writes_for_a_label(run: Path, capsys) -> None:
    capsys.readouterr()
    assert main(["sample", str(run), "--label", "past", "--num", "3"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


@pytest.mark.thorough
def test_a_run_with_classes_that_was_stopped_ends_with_the_same_bits(tmp_path: Path, monkeypatch) -> None:
    """Stopped in the warm-up and in the adversarial phase."""
    keys = KEYS | {"likelihood.steps": 2, "warmup.steps": 6, "adversarial.steps": 4, "evaluation.every": 2}
    (tmp_path / "whole").mkdir()
    (tmp_path / "pieces").mkdir()
    whole, folder = tiny_experiment(tmp_path / "whole", keys)
    train(whole, folder, lambda line: None)
    pieces, stopped = tiny_experiment(tmp_path / "pieces", keys)
    keep = PhaseRun.keep
    for step in (4, 10):

        def keep_and_stop(self: PhaseRun, state: Any, *figures: Any, step: int = step) -> None:
            keep(self, state, *figures)
            if int(state.step) == step:
                self.checkpoints.wait()
                raise Interrupted(2, "stopped")

        monkeypatch.setattr(PhaseRun, "keep", keep_and_stop)
        with pytest.raises(Interrupted):
            train(pieces, stopped, lambda line: None)
    monkeypatch.setattr(PhaseRun, "keep", keep)
    train(pieces, stopped, lambda line: None)
    assert read_metrics(folder.path) == read_metrics(stopped.path)
    params = []
    for one, experiment in ((folder, whole), (stopped, pieces)):
        with Checkpoints(one.checkpoints, read_only=True) as checkpoints:
            last = checkpoints.choose("last")
            params.append(
                (
                    restore_generator(checkpoints, last, experiment.config, experiment.generator),
                    restore_discriminator(checkpoints, last, experiment.config, experiment.discriminator),
                )
            )
    assert jax.tree.all(jax.tree.map(np.array_equal, *params))


def test_labels_alone_can_be_learned_without_a_generator(tmp_path: Path) -> None:
    keys = KEYS | {
        "likelihood.steps": 0,
        "adversarial.steps": 0,
        "objective.classification": {"weight": 1.0, "real_fake_weight": 0.0, "labelled_share": 1.0},
    }
    folder = train_tiny(tmp_path, keys)
    evaluation = Evaluation.load(folder)
    assert evaluation is not None
    assert [column.name for column in evaluation.columns] == ["classifier"]
    (accuracy,) = [score.values["classifier"] for score in evaluation.scores if score.name == "class accuracy"]
    assert accuracy.value > 0.8
    config: Config = RunFolder(folder).read_config()
    assert config.classifies
    assert not any("length" in line for line in read_metrics(folder))


@pytest.mark.exhaustive
@pytest.mark.parametrize("label", CLASSES)
def test_after_a_short_training_what_is_written_for_a_label_has_it(
    tmp_path_factory: pytest.TempPathFactory, label: str, capsys
) -> None:
    """Most of its grammatical sentences are in the tense that was asked for; by chance half of them would be."""
    home = tmp_path_factory.getbasetemp() / "obedient"
    if not (home / "runs" / "tiny").exists():
        home.mkdir(exist_ok=True)
        train_tiny(
            home,
            KEYS
            | {
                "data.train_size": 3000,
                "data.labelled": None,
                "objective.classification": None,
                "generator.width": 32,
                "generator.layers": 1,
                "likelihood.steps": 500,
                "likelihood.batch_size": 32,
                "likelihood.optimizer": {"learning_rate": 0.01, "warmup_steps": 20},
                "warmup.steps": 0,
                "adversarial.steps": 0,
                "evaluation.every": 500,
            },
        )
    capsys.readouterr()
    arguments = ["sample", str(home / "runs" / "tiny"), "--label", label, "--num", "200", "--temperature", "0.7"]
    assert main(arguments) == 0
    told = [label_of(line, "tense") for line in capsys.readouterr().out.splitlines()]
    decided = [one for one in told if one is not None]
    assert len(decided) >= 20
    assert np.mean([one == label for one in decided]) > 0.8


def test_the_prompts_of_shown_texts_are_their_labels(run: Path) -> None:
    text = (run / "samples.txt").read_text()
    assert re.search(r"^(past|present) -> ", text, flags=re.MULTILINE)


def test_a_class_that_the_prompt_decides_is_told_by_it(tmp_path: Path, capsys) -> None:
    rows = [{"q": f"{'two' if i % 2 else 'three'} cats", "text": "they run", "label": "ab"[i % 2]} for i in range(80)]
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    own = {"kind": "hf", "train": str(tmp_path / "rows.jsonl"), "valid": str(tmp_path / "rows.jsonl")}
    data = {f"data.{name}": value for name, value in own.items()}
    data |= {"data.text_column": "text", "data.prompt_column": "q", "data.label_column": "label"}
    keys = {name: value for name, value in KEYS.items() if not name.startswith("data.")}
    keys |= {"objective.classification": {"weight": 1.0}, "generator.max_positions": 64}
    home = train_tiny(tmp_path, keys | data | {"data.valid_fraction": None, "data.test_fraction": None})
    found = Evaluation.load(home)
    (accuracy,) = [score.values["classifier"].value for score in found.scores if score.name == "class accuracy"]
    assert accuracy == 1
    capsys.readouterr()
    assert main(["classify", str(home), str(tmp_path / "rows.jsonl")]) == 0
    told = [json.loads(line)["label"] for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert told == [row["label"] for row in rows]
    (tmp_path / "bare.txt").write_text("they run\n")
    assert main(["classify", str(home), str(tmp_path / "bare.txt")]) == 2
    assert "should be rows with both" in capsys.readouterr().err
