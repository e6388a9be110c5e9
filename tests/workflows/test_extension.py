"""`gptgan train --extend`: a run made longer is the run that was that long from the beginning."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from tiny import tiny_config, tiny_experiment

from gptgan_jax.checkpoints.steps import Saved
from gptgan_jax.errors import UserError
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.runs.records import read_metrics
from gptgan_jax.runs.trained import load_params, load_writer
from gptgan_jax.training.loop import train
from gptgan_jax.workflows import extension
from gptgan_jax.workflows.extension import extend

ALONE: dict[str, Any] = {"continued.steps": 0, "warmup.steps": 0, "adversarial.steps": 0}


def trained(folder: Path, steps: int) -> RunFolder:
    folder.mkdir(exist_ok=True)
    experiment, run = tiny_experiment(folder, ALONE | {"likelihood.steps": steps})
    train(experiment, run, lambda line: None)
    return run


@pytest.mark.thorough
def test_a_longer_run_goes_on_to_what_it_would_have_been(tmp_path: Path) -> None:
    run = trained(tmp_path / "longer", 4)
    longer = tiny_config(tmp_path / "longer", ALONE | {"likelihood.steps": 6})
    with pytest.raises(UserError, match=r"likelihood.steps: 4 -> 6\); go on with longer phases by --extend, or choose"):
        run.check(longer)
    said: list[str] = []
    extend(longer, said.append)
    assert "likelihood.steps: 4 -> 6" in said[0]
    extend(longer, said.append)
    assert len(said) == 1, "the second time there is nothing to do"
    run, whole = trained(tmp_path / "longer", 6), trained(tmp_path / "whole", 6)
    assert read_metrics(run.path) == read_metrics(whole.path)
    ours, theirs = (load_params(one, load_writer(one), "last")[0] for one in (run, whole))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@pytest.mark.parametrize(
    ("reached", "keys", "says"),
    [
        ("likelihood", {"likelihood.steps": 9, "seed": 3}, "changes the length of phases alone, .* differs in seed"),
        ("likelihood", {"likelihood.steps": 5}, "makes phases longer: likelihood.steps was 6, and is 5"),
        ("adversarial", {"likelihood.steps": 9}, "--name NAME --init_from .*/tiny --init_checkpoint likelihood"),
        ("adversarial", {"continued.steps": 9}, "keep that baseline with --continued.steps 2"),
    ],
)
def test_what_can_not_be_extended_says_what_to_do(
    reached: Any, keys: dict[str, Any], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment, run = tiny_experiment(tmp_path)
    run.create(experiment.config, experiment.tokenizer)

    class Kept:
        def __init__(self, *_: object, **__: object) -> None: ...
        def __enter__(self) -> "Kept":
            return self

        def __exit__(self, *_: object) -> None: ...
        def latest(self) -> Saved:
            return Saved(reached, 8, None)

    monkeypatch.setattr(extension, "Checkpoints", Kept)
    before = run.config_file.read_bytes()
    with pytest.raises(UserError, match=says):
        extend(tiny_config(tmp_path, keys), lambda line: None)
    assert run.config_file.read_bytes() == before


def test_a_run_that_is_not_there_is_not_extended(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no run yet"):
        extend(tiny_config(tmp_path), lambda line: None)
