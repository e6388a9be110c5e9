"""The README's own code runs, and its commands name things that exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_api_example_runs_as_printed_and_has_at_most_15_lines() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(example.strip().splitlines()) <= 15
    result = subprocess.run([sys.executable, "-c", example], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    metrics = result.stdout.splitlines()
    assert "'loss'" in metrics[0]
    assert "'discriminator_accuracy'" in metrics[1]
    assert "'kl'" in metrics[2]


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda path: path.stem
)
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"\b(?:configs|docs)/[\w.]+\w", text))
    linked = {name for name in re.findall(r"\]\(([^)#]+)", text) if "://" not in name}
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
    assert [name for name in sorted(linked) if not (page.parent / name).exists()] == []


def test_every_config_is_in_the_list_of_configs() -> None:
    listed = (ROOT / "docs" / "configs.md").read_text(encoding="utf-8")
    assert [path.name for path in (ROOT / "configs").glob("*.yaml") if f"configs/{path.name}" not in listed] == []


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 120


def test_no_placeholder_is_left() -> None:
    assert "@@" not in README
