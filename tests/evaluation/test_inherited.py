"""A run that took its generator from another: that one's columns and cells are copied where they are of the same."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reported import evaluation, make_run, sweep

from gptgan_jax.config import EvaluationConfig, LikelihoodPhase
from gptgan_jax.evaluation.inherited import with_baselines
from gptgan_jax.evaluation.results import Column, Evaluation, Score
from gptgan_jax.metrics.estimates import REAL, Estimate
from gptgan_jax.runs import fingerprint
from gptgan_jax.runs.folder import HELD_OUT_FILE, RunFolder

OWN = [Column("adversarial, best", "adversarial/9", "least validation loss")]
NLL = Score(
    "held-out NLL", "nats/token", "99 texts", "lower", {"adversarial, best": Estimate(2.4), REAL: Estimate(2.3)}
)
LENGTH = Score("length", "tokens", "other", "real", {"adversarial, best": Estimate(9.0)})


def hold_out(folder: Path, tokens: int = 3, **facts: Any) -> None:
    np.savez(folder / HELD_OUT_FILE, test_target_tokens=np.arange(tokens), facts=np.array(json.dumps(facts)))


def own_evaluation(**changes: Any) -> Evaluation:
    shown = {"adversarial, best": ["mine"], REAL: ["true"]}
    columns = {"columns": OWN, "scores": [NLL, LENGTH], "shown": shown, "sweep": sweep(0.5, ["adversarial"])}
    return evaluation(**(columns | changes))


def settled(tmp_path: Path, source: Evaluation | None = None, **keys: Any) -> tuple[Evaluation, list[str]]:
    """An arm's evaluation with what it has of a likelihood run's, and what was said."""
    source = source or evaluation(sweep=sweep(0.0, ["likelihood", "continued"]))
    base = make_run(tmp_path, "base", source, last=0)
    keys = {"init_from": str(base.folder), "likelihood": LikelihoodPhase(steps=0)} | keys
    arm = make_run(tmp_path, "arm", own_evaluation(), last=0, **keys)
    hold_out(base.folder, notes="fitted")
    hold_out(arm.folder, notes="taken")
    said: list[str] = []
    return with_baselines(arm.evaluation, RunFolder(arm.folder), arm.config, said.append), said


def test_columns_scores_texts_and_cells_are_copied_and_a_note_says_so(tmp_path: Path) -> None:
    found, said = settled(tmp_path)
    assert [column.name for column in found.columns] == ["likelihood", "adversarial, best"]
    assert found.columns[0].run == str(tmp_path / "base")
    assert found.scores[0].values["likelihood"] == Estimate(2.5, 0.01)
    assert found.scores[0].values["adversarial, best"] == Estimate(2.4)
    assert found.shown == {"likelihood": ["text before"], "adversarial, best": ["mine"], REAL: ["true"]}
    columns = list(dict.fromkeys(cell.column for cell in found.sweep.cells))
    assert columns == ["likelihood", "adversarial", REAL]
    assert found.notes[0] == "a note"
    copied = f"Baselines: likelihood: figures and sweep copied from {tmp_path / 'base'}, which this run started from"
    assert found.notes[1].startswith(copied)
    assert said == []


def test_a_row_that_was_measured_otherwise_stays_without(tmp_path: Path) -> None:
    found, _ = settled(tmp_path)
    assert "likelihood" not in found.scores[1].values, "the signatures differ"


def test_a_sweep_that_was_measured_otherwise_is_not_copied(tmp_path: Path) -> None:
    found, _ = settled(tmp_path, evaluation(sweep=sweep(0.0, ["likelihood"], signature="30 texts")))
    assert {cell.column for cell in found.sweep.cells} == {"adversarial", REAL}
    assert "likelihood" in found.scores[0].values
    assert ": figures copied" in found.notes[-1]


def test_a_sweep_over_another_grid_is_not_copied(tmp_path: Path) -> None:
    whole = sweep(0.0, ["likelihood"])
    cells = [cell for cell in whole.cells if cell.temperature != 0.6]
    found, _ = settled(tmp_path, evaluation(sweep=dataclasses.replace(whole, cells=cells)))
    assert {cell.column for cell in found.sweep.cells} == {"adversarial", REAL}


def test_texts_of_another_seed_are_not_shown_beside(tmp_path: Path) -> None:
    found, _ = settled(tmp_path, seed=3)
    assert list(found.shown) == ["adversarial, best", REAL]
    assert "likelihood" in found.scores[0].values


def test_copying_again_changes_nothing(tmp_path: Path) -> None:
    found, _ = settled(tmp_path)
    folder = RunFolder(tmp_path / "arm")
    assert with_baselines(found, folder, folder.read_config(), pytest.fail) == found


def test_what_was_copied_stays_when_the_other_run_is_gone(tmp_path: Path) -> None:
    found, _ = settled(tmp_path)
    shutil.rmtree(tmp_path / "base")
    folder = RunFolder(tmp_path / "arm")
    assert with_baselines(found, folder, folder.read_config(), pytest.fail) == found


def gone(folder: Path) -> None:
    shutil.rmtree(folder)


def not_judged(folder: Path) -> None:
    (folder / "evaluation.json").unlink()


def other_text(folder: Path) -> None:
    hold_out(folder, tokens=4)


def other_source(folder: Path) -> None:
    hold_out(folder, source="PCFG")


def other_settings(folder: Path) -> None:
    config = RunFolder(folder).read_config()
    RunFolder(folder).write_config(dataclasses.replace(config, evaluation=EvaluationConfig(samples=77)))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (gone, "is not there any more"),
        (not_judged, "has not been evaluated; evaluate it, then this"),
        (other_text, "is evaluated on other text"),
        (other_source, "is evaluated on other text"),
        (other_settings, "is evaluated with other settings (evaluation.samples: 77 -> 1000)"),
    ],
)
def test_without_a_run_to_compare_with_a_note_says_why(tmp_path: Path, change: Any, says: str) -> None:
    settled(tmp_path)
    change(tmp_path / "base")
    folder, said = RunFolder(tmp_path / "arm"), []
    found = with_baselines(own_evaluation(), folder, folder.read_config(), said.append)
    assert found.columns == OWN
    assert found.notes[-1].startswith("Baselines: none; ")
    assert says in found.notes[-1]
    assert says in said[0]


def test_nothing_is_copied_of_a_run_that_has_another_checkpoint_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after `gptgan train --extend` on it: what it has been evaluated on since is no start of this run."""
    settled(tmp_path)
    folder, said = RunFolder(tmp_path / "arm"), []
    for now, columns in (("#before", 2), (None, 2), ("#since", 1)):
        monkeypatch.setattr(fingerprint, "start_digest", lambda config, now=now: now, raising=False)
        (folder.path / "start.txt").write_text("#before\n")
        found = with_baselines(own_evaluation(), folder, folder.read_config(), said.append)
        assert len(found.columns) == columns, now
    why = f"{tmp_path / 'base'}, which this run started from, has gone on to another checkpoint since"
    assert found.notes[-1] == f"Baselines: none; {why}."
    assert said == [f"no baselines: {why}"]
    (folder.path / "start.txt").unlink()  # of an earlier version
    assert len(with_baselines(own_evaluation(), folder, folder.read_config(), said.append).columns) == 2


@pytest.mark.parametrize("keys", [{"init_from": None}, {"likelihood": LikelihoodPhase(steps=5)}])
def test_a_run_with_likelihood_training_of_its_own_has_its_own_baseline(tmp_path: Path, keys: dict[str, Any]) -> None:
    assert settled(tmp_path, **keys) == (own_evaluation(), [])
