"""What a user sees of a run that is in use, of a checkpoint that is damaged, and of checkpoints that lie elsewhere."""

import shutil
from pathlib import Path

import pytest
from tiny import train_tiny, write_config

from gptgan_jax.cli import main
from gptgan_jax.config.files import load_config
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.runs.lock import locked
from gptgan_jax.workflows.comparison import load_comparison

SHORT = {"likelihood.steps": 4, "continued.steps": 0, "warmup.steps": 0, "adversarial.steps": 0}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_tiny(tmp_path_factory.mktemp("finished"), SHORT)


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "runs" / "tiny"))


def only_line(capsys: pytest.CaptureFixture) -> str:
    (line,) = capsys.readouterr().err.splitlines()
    return line


def silently(line: str) -> None:
    """Takes no notice of a line."""


@pytest.mark.thorough
def test_a_run_folder_in_use_is_refused_and_left_alone(run: Path, finished: Path, tmp_path: Path, capsys) -> None:
    data = {"data.train": str(finished.parents[1] / "corpus.txt")}
    config = write_config(tmp_path, SHORT | data)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != "lock"}
    with locked(run, silently):
        assert main(["train", str(config)]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"gptgan: {run} is in use by a live run (process ")
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != "lock"}
    assert main(["train", str(config)]) == 0, "the file that is left behind locks nothing"


def flip_largest(step: Path) -> str:
    """Flips a bit of the step's largest file; its path in the step."""
    file = max((path for path in step.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    return str(file.relative_to(step))


@pytest.mark.thorough
def test_a_flipped_bit_is_one_line_that_names_the_file(run: Path, capsys) -> None:
    """`evaluate` leaves such a checkpoint out, and here nothing is left."""
    name = flip_largest(run / "checkpoints" / "likelihood" / "4")
    (run / "evaluation.json").unlink()
    told = f"checkpoint {run / 'checkpoints' / 'likelihood' / '4'} can't be read ({name} has "
    assert main(["sample", str(run)]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"gptgan: {told}")
    assert line.endswith("; name another")
    assert main(["evaluate", str(run)]) == 2
    assert capsys.readouterr().err.splitlines()[-2].startswith(f"left out: {told}")
    assert main(["sample", str(run), "--checkpoint", "2"]) == 0


# ---- checkpoints elsewhere


@pytest.mark.thorough
def test_checkpoints_lie_where_the_config_says_and_are_found_there(tmp_path: Path, capsys) -> None:
    keys = SHORT | {"checkpoints.folder": str(tmp_path / "elsewhere")}
    run = train_tiny(tmp_path, keys)
    assert not (run / "checkpoints").exists()
    assert sorted(path.name for path in (tmp_path / "elsewhere" / "tiny" / "likelihood").iterdir()) == ["2", "4"]
    assert main(["sample", str(run), "--num", "2"]) == 0
    assert main(["evaluate", str(run)]) == 0
    capsys.readouterr()
    assert main(["train", str(tmp_path / "tiny.yaml")]) == 0
    assert "all 4 steps are already done" in capsys.readouterr().err
    assert main(["train", str(tmp_path / "tiny.yaml"), "--checkpoints.folder", "null"]) == 2, "would begin anew"
    assert "checkpoints.folder" in only_line(capsys)
    shutil.rmtree(run)
    assert main(["train", str(tmp_path / "tiny.yaml")]) == 2
    assert "holds the checkpoints of another run (or of this one: bring " in only_line(capsys)


def test_a_bucket_that_can_not_be_reached_is_told_in_one_line(tmp_path: Path, capsys) -> None:
    config = write_config(tmp_path, SHORT | {"checkpoints.folder": "gs://no-such-bucket/runs"})
    assert main(["train", str(config)]) == 2
    assert only_line(capsys).startswith("gptgan: checkpoints.folder gs://no-such-bucket/runs can't be reached (")
    assert not (tmp_path / "runs").exists()


def test_a_remote_folder_keeps_its_name_and_a_local_one_is_named_from_the_root(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    remote = load_config(write_config(tmp_path, {"checkpoints.folder": "gs://bucket/runs"}))
    assert str(RunFolder.of(remote).checkpoints_of(remote)) == "gs://bucket/runs/tiny"
    local = load_config(write_config(tmp_path, {"checkpoints.folder": "there"}))
    assert RunFolder.of(local).checkpoints_of(local) == tmp_path / "there" / "tiny"


def test_a_comparison_keeps_the_checkpoints_of_its_runs_apart_from_those_of_others(tmp_path: Path) -> None:
    write_config(tmp_path, {"checkpoints.folder": str(tmp_path / "there")})
    (tmp_path / "both.yaml").write_text(
        "base: tiny.yaml\narms: {reinforce: {}}\nset: {evaluation.sweep.top_p: [1.0]}\n"
    )
    comparison = load_comparison(tmp_path / "both.yaml")
    for config in (comparison.base, comparison.arms[0].config):
        assert config.checkpoints.folder == str(tmp_path / "there" / "both")
