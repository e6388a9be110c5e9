"""The README's own code runs, and its commands name things that exist."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_api_example_runs_as_printed_and_has_at_most_25_lines() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(example.strip().splitlines()) <= 25
    result = subprocess.run([sys.executable, "-c", example], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    metrics = result.stdout.splitlines()
    assert "'loss'" in metrics[0]
    assert "'discriminator_accuracy'" in metrics[1]
    assert "'kl'" in metrics[2]


def test_every_file_that_the_readme_names_exists() -> None:
    named = set(re.findall(r"\b(?:configs|docs)/[\w.]+\w", README))
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_every_config_is_in_the_readme() -> None:
    for config in (ROOT / "configs").glob("*.yaml"):
        assert f"configs/{config.name}" in README


def test_no_placeholder_is_left() -> None:
    assert "@@" not in README
