"""Symbolic links in a run folder: whatever a run writes, no file outside of its folder is changed."""

import hashlib
import os
import shutil
from pathlib import Path

import pytest
from tiny import train_tiny, write_config

from gptgan_jax.cli import main
from gptgan_jax.runs.records import read_metrics

# Every file that a run has: labels make it write classes.json.
KEYS = {
    "data.kind": "grammar",
    "data.label": "tense",
    "data.valid_fraction": None,
    "data.test_fraction": None,
    "data.max_length": 12,
    "data.train_size": 60,
    "data.valid_size": 30,
    "data.test_size": 30,
    "objective.classification.weight": 1.0,
    "records.tensorboard": True,
    "evaluation.every": 4,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, judged and reported."""
    return train_tiny(tmp_path_factory.mktemp("finished"), KEYS)


def copied(finished: Path, tmp_path: Path) -> Path:
    """The run in a folder of its own, its configuration with it."""
    shutil.copytree(finished.parents[1], tmp_path / "mine")
    config = tmp_path / "mine" / "tiny.yaml"
    config.write_text(config.read_text().replace(str(finished.parents[1]), str(config.parent)))
    return config.parent / "runs" / "tiny"


def contents(folder: Path) -> dict[str, str]:
    """What the files of a folder hold."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def plant_links(run: Path, outside: Path) -> list[Path]:
    """Moves the run's own files elsewhere and puts links in their place, and at the names with .tmp; the names."""
    outside.mkdir()
    # Names of checkpoints are Orbax's, of event files the time's.
    apart = ("checkpoints", "tensorboard")
    names = [path for path in run.rglob("*") if path.is_file() and path.relative_to(run).parts[0] not in apart]
    planted = []
    for number, path in enumerate(names):
        if path.name != "lock":
            path.rename(outside / f"{number}-{path.name}")
            path.symlink_to(outside / f"{number}-{path.name}")
            planted.append(path)
        victim = outside / f"{number}-{path.name}.tmp"
        victim.write_text("mine")
        path.with_name(f"{path.name}.tmp").symlink_to(victim)
    return planted


@pytest.mark.exhaustive
def test_a_run_that_goes_on_writes_through_no_link(finished: Path, tmp_path: Path, capsys) -> None:
    run, outside = copied(finished, tmp_path), tmp_path / "outside"
    shutil.rmtree(run / "checkpoints" / "adversarial")
    planted = plant_links(run, outside)
    names = {path.name for path in planted}
    assert names >= {"config.yaml", "classes.json", "held_out.npz", "training_time.json", "metrics.jsonl"}
    assert names >= {"samples.txt", "evaluation.json", "report.html", "report.md", "tokenizer.json"}
    before = contents(outside)
    command = [str(run.parents[1] / "tiny.yaml")]
    assert main(["train", *command]) == 0, capsys.readouterr().err
    assert main(["evaluate", str(run), "--sweep"]) == 0, capsys.readouterr().err
    assert main(["report", str(run)]) == 0, capsys.readouterr().err
    assert contents(outside) == before
    # What is made once is only read.
    left = {path.name for path in planted if path.is_symlink()}
    assert left == {"classes.json", "held_out.npz", "tokenizer.json", "tokenizer_config.json"}
    assert max(record["step"] for record in read_metrics(run)) == 14
    assert not list(run.rglob(".gptgan-*"))


@pytest.mark.thorough
def test_a_run_that_is_made_over_links_writes_through_none(finished: Path, tmp_path: Path, capsys) -> None:
    """The folder of a run that was killed while it was made: there is no config.yaml yet."""
    run, outside = copied(finished, tmp_path), tmp_path / "outside"
    for path in run.iterdir():
        if path.name in ("checkpoints", "tensorboard"):
            shutil.rmtree(path)
        elif path.name not in ("tokenizer", "held_out.npz", "classes.json", "lock"):
            path.unlink()
    planted = plant_links(run, outside)
    before = contents(outside)
    assert main(["train", str(run.parents[1] / "tiny.yaml")]) == 0, capsys.readouterr().err
    assert contents(outside) == before
    assert not [path for path in planted if path.is_symlink()]


@pytest.mark.thorough
@pytest.mark.cases(1)
@pytest.mark.parametrize("name", ["tokenizer", "checkpoints", "checkpoints/adversarial", "tensorboard"])
def test_a_folder_that_is_a_link_is_refused(name: str, finished: Path, tmp_path: Path, capsys) -> None:
    run, outside = copied(finished, tmp_path), tmp_path / "outside"
    (run / name).rename(outside)
    (run / name).symlink_to(outside)
    before = contents(tmp_path)
    assert main(["train", str(run.parents[1] / "tiny.yaml")]) == 2
    assert f"{run / name} is a symbolic link" in capsys.readouterr().err
    assert contents(tmp_path) == before


def test_a_link_to_nothing_is_not_made_a_folder(finished: Path, tmp_path: Path, capsys) -> None:
    run = copied(finished, tmp_path)
    shutil.rmtree(run / "tensorboard")
    (run / "tensorboard").symlink_to(tmp_path / "elsewhere")
    assert main(["train", str(run.parents[1] / "tiny.yaml")]) == 2
    assert "tensorboard is a symbolic link" in capsys.readouterr().err
    assert not (tmp_path / "elsewhere").exists()


def test_an_export_into_the_run_follows_no_link(finished: Path, tmp_path: Path, capsys) -> None:
    run = copied(finished, tmp_path)
    (tmp_path / "outside").mkdir()
    (run / "export").symlink_to(tmp_path / "outside")
    assert main(["export", str(run), "--to", "hf"]) == 2
    assert "export is a symbolic link" in capsys.readouterr().err
    assert not list((tmp_path / "outside").iterdir())


@pytest.mark.cases(1)
@pytest.mark.parametrize("kind", ["link", "hard link"])
def test_the_lock_overwrites_no_other_file(kind: str, tmp_path: Path, capsys) -> None:
    config, victim = write_config(tmp_path, {"adversarial.steps": 0, "warmup.steps": 0, "continued.steps": 0}), "victim"
    run = tmp_path / "runs" / "tiny"
    run.mkdir(parents=True)
    (tmp_path / victim).write_text("mine")
    if kind == "link":
        (run / "lock").symlink_to(tmp_path / victim)
        assert main(["train", str(config)]) == 2
        assert "lock is a link" in capsys.readouterr().err
    else:
        os.link(tmp_path / victim, run / "lock")
        assert main(["train", str(config)]) == 0
    assert (tmp_path / victim).read_text() == "mine"
