"""Runs whose likelihood training packs its rows."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from tiny import tiny_experiment, train_tiny, write_config, write_corpus

from gptgan_jax.cli import main
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.runs.records import Records, read_metrics
from gptgan_jax.runs.trained import load_params, load_writer
from gptgan_jax.training import phase_run
from gptgan_jax.training.loop import train

PACKED = {"likelihood.packing": "concatenate", "data.max_length": 12, "likelihood.steps": 6}


class Killed(BaseException):
    """What ends a run here."""


def last_generator(folder: RunFolder) -> list[np.ndarray]:
    params, _ = load_params(folder, load_writer(folder), "last")
    return [np.asarray(x) for x in jax.tree.leaves(params)]


@pytest.mark.cases(1)
@pytest.mark.thorough
@pytest.mark.parametrize("packing", ["concatenate", "best_fit"])
def test_both_phases_of_likelihood_training_pack_and_the_others_have_a_text_a_row(tmp_path: Path, packing: str) -> None:
    seen: dict[str, list[Any]] = {}
    execute, said = phase_run.PhaseRun.execute, []

    def noting(self: Any, state: Any) -> Any:
        step = self.step

        def noted(state: Any, batch: Any) -> Any:
            seen.setdefault(self.phase, []).append(batch)
            return step(state, batch)

        self.step = noted
        return execute(self, state)

    experiment, folder = tiny_experiment(tmp_path, PACKED | {"likelihood.packing": packing})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(phase_run.PhaseRun, "execute", noting)
        train(experiment, folder, said.append)
    assert {phase: {batch.packed is not None for batch in batches} for phase, batches in seen.items()} == {
        "likelihood": {True},
        "continued": {True},
        "warmup": {False},
        "adversarial": {False},
    }
    # No text of the corpus is as long as a row, so rows with several are what there is.
    segments = np.concatenate([np.asarray(batch.packed.segments) for batch in seen["likelihood"]])
    assert (segments.max(axis=1) > 1).mean() > 0.5
    assert any("packed rows" in line and "one text per row" in line for line in said)


@pytest.mark.thorough
def test_a_packed_run_that_was_killed_ends_like_one_that_was_not(tmp_path: Path) -> None:
    keys = PACKED | {"likelihood.packing": "best_fit", "warmup.steps": 0, "adversarial.steps": 0, "continued.steps": 4}
    experiment, whole = tiny_experiment(tmp_path / "whole", keys)
    train(experiment, whole, lambda line: None)
    experiment, folder = tiny_experiment(tmp_path / "killed", keys)
    write = Records.write

    def dying(self: Records, phase: Any, step: int, *figures: Any) -> Any:
        if step == 5:
            raise Killed
        return write(self, phase, step, *figures)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Records, "write", dying)
        with pytest.raises(Killed):
            train(experiment, folder, lambda line: None)
    train(experiment, folder, lambda line: None)
    assert read_metrics(folder.path) == read_metrics(whole.path)
    for one, other in zip(last_generator(folder), last_generator(whole), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.cases(1)
@pytest.mark.thorough
@pytest.mark.parametrize("packing", ["concatenate", "best_fit"])
def test_a_killed_run_from_a_store_has_the_losses_of_the_same_text_in_memory(tmp_path: Path, packing: str) -> None:
    lines = write_corpus(tmp_path / "all.txt").read_text().splitlines()
    lines[::7] = [" ".join(lines[i : i + 6]) for i in range(0, len(lines), 7)]  # most are longer than a row
    files = {"train": lines[:40], "valid": lines[40:50], "test": lines[50:]}
    for name, texts in files.items():
        (tmp_path / f"{name}.txt").write_text("\n".join(texts), encoding="utf-8")
    keys = PACKED | {"likelihood.packing": packing, "warmup.steps": 0, "adversarial.steps": 0, "continued.steps": 4}
    keys |= {f"data.{name}": str(tmp_path / f"{name}.txt") for name in files}
    for folder in ("memory", "stored"):
        (tmp_path / folder).mkdir()
    in_memory = train_tiny(tmp_path / "memory", keys)
    # Of the same words in the same order: a store fits its tokenizer to the different texts alone.
    keys |= {"tokenizer.kind": "file", "tokenizer.path": str(in_memory / "tokenizer" / "tokenizer.json")}
    keys |= {"data.store": str(tmp_path / "store")}
    command = ["train", str(write_config(tmp_path / "stored", keys))]
    write = Records.write
    for killed_at in (5, 8):  # in likelihood, and in continued training

        def dying(self: Records, phase: Any, step: int, *figures: Any, at: int = killed_at) -> Any:
            if step == at:
                raise Killed
            return write(self, phase, step, *figures)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Records, "write", dying)
            with pytest.raises(Killed):
                main(command)
    assert main(command) == 0
    stored = tmp_path / "stored" / "runs" / "tiny"
    assert len(read_metrics(in_memory)) >= 10
    assert read_metrics(stored) == read_metrics(in_memory)
    for one, other in zip(last_generator(RunFolder(stored)), last_generator(RunFolder(in_memory)), strict=True):
        np.testing.assert_array_equal(one, other)
