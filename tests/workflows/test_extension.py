"""`gptgan train --extend`: a run made longer is the run that was that long from the beginning."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from tiny import tiny_config, tiny_experiment, write_config

from gptgan_jax.cli import main
from gptgan_jax.errors import UserError
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.runs.held_out import held_out_of, save_held_out
from gptgan_jax.runs.records import read_metrics
from gptgan_jax.runs.trained import load_params, load_writer
from gptgan_jax.training import loop
from gptgan_jax.training.loop import train
from gptgan_jax.training.run import Run
from gptgan_jax.workflows import extension
from gptgan_jax.workflows.extension import ExtendedFolder
from gptgan_jax.workflows.preview import preview
from gptgan_jax.workflows.run import train_run

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
    told: list[str] = []
    assert f"extending {run.path}: likelihood.steps: 4 -> 6; learning rates" in "\n".join(
        preview(longer, told.append, True)
    )
    assert run.read_config().likelihood.steps == 4
    for times in (1, 0):  # the second time there is nothing to do
        said: list[str] = []
        train_run(longer, said.append, extend=True)
        assert sum("likelihood.steps: 4 -> 6" in line for line in said) == times
    whole = trained(tmp_path / "whole", 6)
    assert read_metrics(run.path) == read_metrics(whole.path)
    ours, theirs = (load_params(one, load_writer(one), "last")[0] for one in (run, whole))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@pytest.mark.parametrize(
    ("reached", "keys", "says"),
    [
        ("likelihood", {"likelihood.steps": 9, "seed": 3}, "only changes the length of phases, .* differs in seed"),
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

    monkeypatch.setattr(extension, "finished_steps", lambda folder: [(8, reached)])
    before = run.config_file.read_bytes()
    with pytest.raises(UserError, match=says):
        train_run(tiny_config(tmp_path, keys), lambda line: None, extend=True)
    assert run.config_file.read_bytes() == before


def test_a_run_that_is_not_there_is_not_extended(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a run yet"):
        ExtendedFolder.of(config := tiny_config(tmp_path)).check(config)


@pytest.mark.parametrize("why", ["text", "batch", "lock"])
def test_what_is_refused_leaves_the_run_as_long_as_it_was(
    why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment, run = tiny_experiment(tmp_path, ALONE)
    save_held_out(run.path, held_out_of(experiment))
    run.create(experiment.config, experiment.tokenizer)
    before = run.config_file.read_bytes()
    longer = tiny_config(tmp_path, ALONE | {"likelihood.steps": 9})

    def refused(*_: object, **__: object) -> None:
        raise UserError("refused")

    if why == "text":
        corpus = tmp_path / "corpus.txt"
        corpus.write_text(corpus.read_text().replace("cats", "dogs"))
    elif why == "batch":
        monkeypatch.setattr(Run, "check_resources", refused)
    else:
        monkeypatch.setattr(loop, "locked", refused)
    with pytest.raises(UserError, match="has changed since" if why == "text" else "refused"):
        train_run(longer, lambda line: None, extend=True)
    assert run.config_file.read_bytes() == before


def test_the_processes_of_a_run_join_before_any_of_them_looks_at_its_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    write_config(tmp_path, ALONE)
    flags = ["--extend", "--distributed", "nowhere"]
    assert main(["train", str(tmp_path / "tiny.yaml"), *flags]) == 2
    assert "--distributed 'nowhere' should be HOST:PORT" in capsys.readouterr().err
