"""The code on docs/extending.md runs as it is printed."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny import write_config

from gptgan_jax.cli import main
from gptgan_jax.runs.records import read_metrics

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
ESTIMATOR, STEPS, CHECK, OTHERS, AT_ONCE, CHECKED = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
(CONFIG,) = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder with their estimator, which can be imported."""
    (tmp_path / "my_estimators.py").write_text(ESTIMATOR, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_estimators", raising=False)
    return tmp_path


def test_the_estimator_has_at_most_40_lines() -> None:
    assert len(ESTIMATOR.strip().splitlines()) <= 40


@pytest.mark.thorough
def test_it_takes_a_step_and_so_do_the_reward_and_the_loss(module: Path, capsys: pytest.CaptureFixture) -> None:
    names: dict[str, Any] = {}
    exec(STEPS, names)
    assert "cut_off" in capsys.readouterr().out
    exec(OTHERS, names)
    assert -1 < float(capsys.readouterr().out) < 1
    exec(AT_ONCE, names)
    first, second, third = map(float, capsys.readouterr().out.strip(" []\n").split())
    assert 0 <= first < second < third  # as the rates do
    exec(CHECKED, names)
    with pytest.raises(ValueError, match="holds the token id 25"):
        names["step"](names["state"], names["batch"].replace(target=names["batch"].target.at[0, 0].set(25)))


def test_its_gradient_is_compared_by_enumeration(
    module: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "estimators"))
    exec(CHECK, {})
    found = re.search(r"bias: (\S+) of (\S+)", capsys.readouterr().out)
    assert found
    assert 0.005 < float(found[1]) < float(found[2])


@pytest.mark.always
@pytest.mark.thorough
def test_the_config_trains(module: Path) -> None:
    """With whatever else a run has; its metrics are recorded, and an argument reaches the function."""
    keys = {f"objective.{name}": value for name, value in yaml.safe_load(CONFIG)["objective"].items()}
    keys["objective.estimator"]["options"]["clip"] = 1e-9
    path = write_config(module, keys)
    assert main(["train", str(path)]) == 0
    steps = [line for line in read_metrics(module / "runs" / "tiny") if "cut_off" in line]
    assert [line["cut_off"] for line in steps] == [1.0] * 4
    assert steps[0]["baseline"] == 0
    assert steps[-1]["baseline"] != 0
