"""`make hlo-diff`: equal programs have one text, whatever their parts are called, and others do not."""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from tiny import write_config

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "benchmarks" / "hlo_diff.py"
_spec = importlib.util.spec_from_file_location("hlo_diff", SCRIPT)
assert _spec is not None
assert _spec.loader is not None
hlo_diff = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(hlo_diff)


def text_of(function: Callable[..., Any]) -> str:
    return jax.jit(function).lower(jnp.ones((8, 8)), jnp.ones((8, 8))).compile().as_text()


def looped(x: jax.Array, y: jax.Array) -> jax.Array:
    return jax.lax.fori_loop(0, 5, lambda i, z: jnp.tanh(z @ y) + i, x)


def the_same_under_other_names(first: jax.Array, second: jax.Array) -> jax.Array:
    def body(turn: jax.Array, carried: jax.Array) -> jax.Array:
        with jax.named_scope("a scope"):
            product = jnp.dot(carried, second)
        return jnp.tanh(product) + turn

    return jax.lax.fori_loop(0, 5, body, first)


def with_another_constant(x: jax.Array, y: jax.Array) -> jax.Array:
    return jax.lax.fori_loop(0, 6, lambda i, z: jnp.tanh(z @ y) + i, x)


def with_another_operand(x: jax.Array, y: jax.Array) -> jax.Array:
    return jax.lax.fori_loop(0, 5, lambda i, z: jnp.tanh(z @ x) + i, x)


def test_names_and_source_lines_are_taken_out_of_a_program() -> None:
    one, other = text_of(looped), text_of(the_same_under_other_names)
    assert one != other
    assert hlo_diff.canonical(one) == hlo_diff.canonical(other)
    assert "metadata" not in hlo_diff.canonical(one)
    assert str(Path(__file__).name) not in hlo_diff.canonical(one)


@pytest.mark.parametrize("other", [with_another_constant, with_another_operand])
def test_what_is_computed_is_not_taken_out(other: Callable[..., Any]) -> None:
    assert hlo_diff.canonical(text_of(looped)) != hlo_diff.canonical(text_of(other))


MODULE = """HloModule jit_f, entry_computation_layout={(f32[2])->f32[2]}

%region_0.3 (a.1: f32[], b.1: f32[]) -> f32[] {
  %a.1 = f32[] parameter(0)
  ROOT %sum.1 = f32[] add(%a.1, %b.1), metadata={op_name="jit(f)/sum {of} \\"it\\"" source_file="f.py" source_line=3}
}

ENTRY %main.9 (x.1: f32[2]) -> f32[] {
  %x.1 = f32[2]{0} parameter(0), metadata={op_name="x"}
  ROOT %r.1 = f32[] reduce(%x.1, %c), dimensions={0}, to_apply=%region_0.3, metadata={op_name="r" stack_frame_id=7}
}
"""


def test_the_computation_that_differs_is_named_where_it_is_called() -> None:
    text = hlo_diff.canonical(MODULE)
    assert text == hlo_diff.canonical(MODULE.replace("region_0.3", "other.77").replace("sum.1", "total"))
    (name,) = {word for word in text.replace(",", " ").split() if word.startswith("computation_")}
    assert f"to_apply={name}" in text
    assert name not in hlo_diff.canonical(MODULE.replace("add(", "multiply("))


def test_a_report_counts_what_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for side, texts in (("before", ("a\nb\n", "a\n")), ("after", ("a\nc\n", "a\n"))):
        (tmp_path / side).mkdir()
        for name, text in zip(("one.hlo", "two.hlo"), texts, strict=True):
            (tmp_path / side / name).write_text(text)
    (tmp_path / "after" / "three.hlo").write_text("a\n")
    assert hlo_diff.report(tmp_path) == 1
    printed = capsys.readouterr().out
    assert "one: 1 lines less, 1 more" in printed
    assert "two: the same" in printed
    assert "three: only now" in printed
    assert printed.endswith("2 of 3 programs changed\n")


def test_a_revision_that_there_is_not_is_one_line_and_status_2(tmp_path: Path) -> None:
    repository(tmp_path)
    done = compared(tmp_path, tmp_path / "tiny.yaml", "no-such-revision")
    assert done.returncode == 2
    assert done.stderr.startswith("hlo-diff: no-such-revision: ")
    assert done.stderr.count("\n") == 1


# 40 s: four times a program is compiled in a process of its own.
@pytest.mark.exhaustive
def test_a_renamed_function_is_no_change_and_another_scale_is_one(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "gptgan_jax", tmp_path / "gptgan_jax", ignore=shutil.ignore_patterns("__pycache__"))
    config = write_config(tmp_path / "config", {"generator.max_positions": 40, "vocab_size": 50})
    repository(tmp_path)
    attention = tmp_path / "gptgan_jax" / "layers" / "attention.py"
    text = attention.read_text(encoding="utf-8")
    attention.write_text("\n\n" + text.replace("_in_full", "_with_all_scores"), encoding="utf-8")
    done = compared(tmp_path, config, "HEAD")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tiny.likelihood: the same\n0 of 1 programs changed" in done.stdout
    attention.write_text(text.replace("shape[-1] ** -0.5", "shape[-1] ** -0.25"), encoding="utf-8")
    done = compared(tmp_path, config, "HEAD")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 of 1 programs changed" in done.stdout


def repository(folder: Path) -> None:
    """Makes a folder a repository of one commit with all its files."""
    name = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "--quiet"], ["add", "--all"], [*name, "commit", "--quiet", "--allow-empty", "-m", "all"]):
        subprocess.run(["git", "-C", str(folder), *command], check=True, capture_output=True)


def compared(root: Path, config: Path, revision: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), revision, "--root", str(root), "--configs", str(config)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [*command, "--programs", "likelihood"], capture_output=True, text=True, timeout=600, env=environment
    )
