"""The code on docs/rewards.md runs as it is printed."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny import write_config

from gptgan_jax.cli import main
from gptgan_jax.runs.records import read_metrics
from gptgan_jax.text_rewards.functions import BUILT_IN

PAGE = (Path(__file__).parents[1] / "docs" / "rewards.md").read_text(encoding="utf-8")
MODULE, STEPS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
(CONFIG,) = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.mark.thorough
def test_the_config_trains_with_the_functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_rewards.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_rewards", raising=False)
    keys = {f"objective.{name}": value for name, value in yaml.safe_load(CONFIG)["objective"].items()}
    assert main(["train", str(write_config(tmp_path, keys))]) == 0
    steps = [line for line in read_metrics(tmp_path / "runs" / "tiny") if "reward/brief" in line]
    assert len(steps) == 4
    assert all(0 <= step["reward/brief"] <= 1 and step["reward/near_five"] <= 0 for step in steps)
    assert all("reward/begins_alike" in step for step in steps)


@pytest.mark.thorough
def test_the_step_of_the_functional_api_is_made(capsys: pytest.CaptureFixture) -> None:
    names: dict[str, Any] = {}
    exec(STEPS, names)
    assert "reward/vowels" in capsys.readouterr().out


def test_every_built_in_function_is_in_its_table() -> None:
    assert set(re.findall(r"^\| `(\w+)` \|", PAGE.partition("## Built-in")[2], flags=re.MULTILINE)) == set(BUILT_IN)
