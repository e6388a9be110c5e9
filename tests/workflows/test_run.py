"""What a run says when it has been judged."""

from pathlib import Path

import pytest

from gptgan_jax.evaluation.memorisation import COPIED
from gptgan_jax.evaluation.results import Column, Evaluation, Score
from gptgan_jax.metrics.estimates import REAL, Estimate
from gptgan_jax.runs.folder import RunFolder
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
    assert all(line.startswith("ALARM: likelihood: 50.0% of its texts stand in the training text") for line in said)
