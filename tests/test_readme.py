"""The README's own code runs, and its commands name things that exist."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.always
@pytest.mark.thorough
@pytest.mark.parametrize("steps", [20, pytest.param(100, marks=pytest.mark.exhaustive)])
def test_the_api_example_has_at_most_15_lines_and_its_figures_get_better(steps: int) -> None:
    """A whole training of three phases, as printed (100 steps each) or shorter."""
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len([line for line in example.splitlines() if line]) <= 15
    program = example.replace("range(100)", f"range({steps})").replace("(0, 99)", f"(0, {steps - 1})")
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert result.returncode == 0, result.stderr
    lines = [line.partition(" ") for line in result.stdout.splitlines()]
    phases = [name for name, _, _ in lines]
    assert phases == [name for name in ("likelihood", "discriminator", "adversarial") for _ in range(2)]
    first, last, untrained, trained, before, after = (ast.literal_eval(metrics) for _, _, metrics in lines)
    assert last["loss"] < first["loss"] - (2 if steps == 100 else 1)
    assert trained["discriminator_accuracy"] > untrained["discriminator_accuracy"] + 0.05
    assert 0 <= before["kl"] < after["kl"] < 0.5


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
