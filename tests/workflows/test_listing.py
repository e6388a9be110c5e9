"""`gptgan runs`: each state that a run can be in, and what was recorded of it."""

import json
import os
import time
from pathlib import Path

import pytest
from tiny import tiny_config

from gptgan_jax.cli import main
from gptgan_jax.config.files import to_yaml
from gptgan_jax.evaluation.results import EVALUATION_FILE
from gptgan_jax.runs.lock import locked
from gptgan_jax.runs.records import METRICS_FILE
from gptgan_jax.workflows import listing
from gptgan_jax.workflows.listing import Listed, as_table, list_runs

STEPS = 6 + 2 + 2 + 4


def make_run(folder: Path, records: list[dict[str, object]], config: str, age: float) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(config)
    (folder / METRICS_FILE).write_text("".join(f"{json.dumps(record)}\n" for record in records))
    for file in folder.iterdir():
        os.utime(file, (file.stat().st_atime, file.stat().st_mtime - age))
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    config, folder = to_yaml(tiny_config(tmp_path, {})), tmp_path / "runs"
    step = {"phase": "likelihood", "step": 4, "loss": 2.0}
    validated = [{"phase": "likelihood", "step": n, "valid_nats_per_token": nats} for n, nats in ((2, 1.25), (4, 1.5))]
    last = {"phase": "adversarial", "step": STEPS, "reward": 0.5}
    make_run(folder / "half", [*validated, step, {"phase": "likelihood", "step": 4, "alarm": "x"}], config, 7300)
    (folder / "half" / EVALUATION_FILE).write_text("{}")  # evaluated on the way
    os.utime(folder / "half" / EVALUATION_FILE, (0, time.time() - 7300))
    make_run(folder / "whole", [last], config, 130)
    make_run(folder / "seeds" / "seed_0", [last], config, 40)
    (folder / "seeds" / "seed_0" / EVALUATION_FILE).write_text("{}")
    make_run(folder / "of_another_version", [last], "no_such_key: 1\n", 3 * 86400)
    return folder


def test_each_run_has_its_state_and_what_it_recorded_last_first(runs: Path) -> None:
    with locked(runs / "whole", lambda line: None):
        found = list_runs(runs)
    assert [one.name for one in found] == ["seeds/seed_0", "whole", "half", "of_another_version"]
    assert [one.state for one in found] == ["finished", "running", "stopped", "unreadable"]
    assert found[2] == Listed("half", "stopped", "likelihood", f"4/{STEPS}", "1.2500", "2 h")
    assert list_runs(runs)[1].state == "trained"
    assert found[3].age == "3 d"


def test_the_table_has_a_line_a_run_and_is_what_the_command_prints(
    runs: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    monkeypatch.setattr(listing.time, "time", lambda: now)
    assert main(["runs", str(runs)]) == 0
    printed = capsys.readouterr().out
    assert printed.rstrip("\n") == as_table(list_runs(runs))
    assert [line.split()[0] for line in printed.splitlines()][:2] == ["run", "seeds/seed_0"]


def test_a_folder_without_a_run_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for folder, said in ((tmp_path, "there is no run in it"), (tmp_path / "none", "no such folder")):
        assert main(["runs", str(folder)]) == 2
        assert capsys.readouterr().err.count("\n") == 1
        assert main(["runs", str(folder)]) == 2
        assert said in capsys.readouterr().err


def test_a_mistyped_command_names_the_nearest(capsys: pytest.CaptureFixture) -> None:
    assert main(["smaple", "runs/x"]) == 2
    assert capsys.readouterr().err == "gptgan: 'smaple' is not a command; did you mean sample?\n"
