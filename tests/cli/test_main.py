"""The command line before any run: help, the compilation cache, and a reader that stops reading."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gptgan_jax.cli import main
from gptgan_jax.config.help import describe_keys
from gptgan_jax.workflows.comparison import KEYS

REPOSITORY = Path(__file__).parents[2]


def test_help_of_train_says_how_it_is_used_and_gives_every_key(capsys) -> None:
    assert main(["train", "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(
        "usage: gptgan train CONFIG [--seeds N] [--profile A:B] [--distributed [ADDRESS]] [--key.path value ...]"
    )
    assert describe_keys() in text


def test_help_of_compare_shows_a_whole_file(capsys) -> None:
    assert main(["compare", "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: gptgan compare FILE [--seeds N] [--key.path value ...]")
    assert all(f"\n  {key}: " in text or f"\n  {key}:\n" in text for key in KEYS)


def test_help_is_given_wherever_it_is_asked_for(capsys) -> None:
    assert main(["train", "no.yaml", "-h"]) == 0
    assert "--likelihood.steps  integer, default 1000: batches; 0 leaves the phase out" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ([], ["train", "compare", "data", "sample", "evaluate", "report"]),
        (
            ["sample"],
            ["--num", "--temperature", "--top-k", "--prompt", "--prompts", "--out", "--checkpoint"],
        ),
        (["evaluate"], ["run", "--sweep", "--samples", "--references", "--training", "--embedder"]),
        (["report"], ["run", "--out"]),
    ],
)
def test_help_names_every_command_and_option(command: list[str], says: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as left:
        main([*command, "--help"])
    assert left.value.code == 0
    text = capsys.readouterr().out
    assert all(re.search(rf"^ +{re.escape(word)}\b", text, re.MULTILINE) for word in says)


def test_train_py_is_the_train_command() -> None:
    done = subprocess.run([sys.executable, "train.py", "no.yaml"], cwd=REPOSITORY, capture_output=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(b"gptgan: no.yaml: no such config file")


def test_a_reader_that_has_seen_enough_ends_it_without_a_word() -> None:
    program = "import sys; from gptgan_jax.cli import main; sys.exit(main(['train', '--help']))"
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-c", program], stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert done.stderr == b""


def test_compiled_programs_are_kept_between_runs(tmp_path: Path) -> None:
    """Where the user has not chosen a place; JAX reads the choice from the environment only when it is imported."""
    program = (
        "from gptgan_jax.system.terminal import configure_jax; configure_jax(); import jax; "
        "print(jax.config.jax_compilation_cache_dir)"
    )
    chosen = {key: value for key, value in os.environ.items() if not key.startswith("JAX_")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=chosen | {"XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(tmp_path / "gptgan_jax" / "xla")
