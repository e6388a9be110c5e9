"""What a run says when it has been judged."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from tiny import tiny_config, tiny_experiment

from gptgan_jax.cli import main
from gptgan_jax.errors import UserError
from gptgan_jax.evaluation.memorisation import COPIED
from gptgan_jax.evaluation.results import Column, Evaluation, Score
from gptgan_jax.metrics.estimates import REAL, Estimate
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.system import atomic_files
from gptgan_jax.training.full_disk import NotWritten
from gptgan_jax.training.signals import Interrupted
from gptgan_jax.workflows import run as running


@pytest.mark.parametrize(("copies", "alarms"), [(0.5, 1), (0.1, 0)])
def test_a_checkpoint_that_recites_is_told_of_at_the_end(
    copies: float, alarms: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"likelihood": Estimate(copies, 0.01), REAL: Estimate(0.1, 0.01)}
    found = Evaluation(
        [Column("likelihood", "likelihood/9", "")], [Score(COPIED, "share", "", "real", values)], {}, [], []
    )
    written: list[object] = []
    monkeypatch.setattr(running, "evaluate_run", lambda *_, **__: found)
    monkeypatch.setattr(running, "load_reported_run", lambda folder: folder)
    monkeypatch.setattr(running, "write_run_report", written.append)
    monkeypatch.setattr(running, "show_scores", lambda *_: None)
    said: list[str] = []
    assert running.judge_run(RunFolder(tmp_path), said.append) == found
    assert len(written) == 1
    assert len(said) == alarms
    assert all(line.startswith("ALARM: likelihood: 50.0% of its texts are in the training text") for line in said)


def full(*_: object, **__: object) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_is_full_after_training_is_told_of_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    experiment, folder = tiny_experiment(tmp_path)
    folder.create(experiment.config, experiment.tokenizer)
    found = Evaluation([], [], {}, [], [])
    monkeypatch.setattr(running, "evaluate_run", lambda folder, *_, **__: found.save(folder.path))
    monkeypatch.setattr(atomic_files.os, "fsync", full)
    says = f"can't write {folder.path / 'evaluation.json'}: No space left on device; "
    with pytest.raises(NotWritten, match=f"^{says}no checkpoint was saved yet; free some space, and the same command"):
        running.judge_run(folder, print)
    monkeypatch.setattr(running, "train_run", lambda *_: folder)
    assert main(["train", str(tmp_path / "tiny.yaml")]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"gptgan: {says}")
    monkeypatch.setattr("gptgan_jax.evaluation.final.evaluate_run", lambda folder, *_, **__: found.save(folder.path))
    assert main(["evaluate", str(folder.path)]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == f"gptgan: {says}free some space, and give the same command again"


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space"), UserError("the report can't be written")])
def test_a_run_that_was_stopped_says_so_where_its_report_can_not_be_written(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(tmp_path)

    def stopped(experiment: Any, folder: RunFolder, say: Any) -> None:
        folder.create(experiment.config, experiment.tokenizer)
        raise Interrupted(15, "stopped; saved")

    def failing(run: Any) -> None:
        raise error

    monkeypatch.setattr(running, "train", stopped)
    monkeypatch.setattr(running, "write_run_report", failing)
    said: list[str] = []
    with pytest.raises(Interrupted, match="stopped; saved"):
        running.train_run(config, said.append)
    assert said[-1].startswith("note: there is no report so far: ")
