"""The command line before any run: help, the compilation cache, and a reader that stops reading."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gptgan_jax.cli import main
from gptgan_jax.cli.compare import COMPARE, STUDY
from gptgan_jax.cli.compile import COMPILE
from gptgan_jax.cli.completion import SHELLS
from gptgan_jax.cli.config_commands import ConfigCommand
from gptgan_jax.cli.data import DATA, TOKENIZE
from gptgan_jax.cli.train import TRAIN
from gptgan_jax.config.help import describe_keys
from gptgan_jax.studies.study_file import KEYS as STUDY_KEYS
from gptgan_jax.workflows.comparison import KEYS

REPOSITORY = Path(__file__).parents[2]


def test_help_of_train_says_how_it_is_used_and_gives_every_key(capsys) -> None:
    assert main(["train", "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: gptgan train CONFIG [--seeds N] [--dry-run] [--extend] [--profile A:B] ")
    assert text.splitlines()[0].endswith(" [--distributed [ADDRESS]] [--key.path value ...]")
    assert describe_keys() in text


def test_help_of_compare_shows_a_whole_file(capsys) -> None:
    assert main(["compare", "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: gptgan compare FILE [--seeds N] [--arm NAME] [--key.path value ...]")
    assert all(f"\n  {key}: " in text or f"\n  {key}:\n" in text for key in KEYS)


def test_help_of_study_shows_a_whole_file(capsys) -> None:
    assert main(["study", "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(
        "usage: gptgan study FILE [--seeds N] [--workers N] [--dry-run] [--report] [--key.path value ...]"
    )
    shown = [key for key in STUDY_KEYS if key not in ("base", "arms")]
    assert all(f"\n  {key}: " in text or f"\n  {key}:  " in text for key in shown)


@pytest.mark.parametrize("command", [TRAIN, COMPARE, STUDY, DATA, TOKENIZE, COMPILE], ids=lambda command: command.name)
def test_commands_that_take_a_config_ask_for_it_and_name_their_help(command: ConfigCommand, capsys) -> None:
    for arguments in ([], ["--seed", "3"]):
        assert main([command.name, *arguments]) == 2
        said = capsys.readouterr().err
        assert said.startswith(
            f"gptgan: give a {'file' if command.file == 'FILE' else 'config'} first: gptgan {command.name} "
        )
        assert said.endswith(f"; see gptgan {command.name} --help\n")
    assert main([command.name, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: {command.usage}\n")
    assert all(f"\n  {flag.usage}\n      {flag.meaning}\n" in f"{text}\n" for flag in command.flags)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (
            ["train", "quickstart", "--sedes", "3"],
            "unknown flag --sedes; did you mean --seeds? See gptgan train",
        ),
        (["train", "quickstart", "--dry-run=3"], "--dry-run takes no value; see gptgan train --help"),
        (["train", "quickstart", "--seeds"], "--seeds needs a value: --seeds N; see gptgan train --help"),
        (["train", "quickstart", "--seeds", "2", "--extend"], "start it without --extend"),
        (["sample", "x", "--temprature", "1"], "did you mean --temperature?; see gptgan sample --help"),
        (["sample", "x", "--num", "no"], "; see gptgan sample --help"),
    ],
)
def test_what_is_wrong_with_a_flag_names_the_flag_and_the_commands_help(
    arguments: list[str], complaint: str, capsys
) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert complaint in said
    assert said.count("\n") == 1


def test_two_mistakes_are_a_line_each(capsys) -> None:
    assert main(["train", "quickstart", "--likelihood.stepz", "3", "--seed", "x"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" ")[1] for line in lines] == ["quickstart:", "quickstart:"]
    assert "'likelihood.stepz'; did you mean 'likelihood.steps'?" in lines[0]
    assert "seed: should be a valid integer" in lines[1]


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_knows_commands_flags_keys_and_values(shell: str, capsys, tmp_path: Path) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for word in ("sample", "--temperature", "--dry-run", "--likelihood.optimizer.learning_rate", "non_saturating"):
        assert word in script
    (tmp_path / "script").write_text(script)
    if shutil.which(shell):
        subprocess.run([shell, "-n", tmp_path / "script"], check=True)


def test_bash_completes_a_key(capsys, tmp_path: Path) -> None:
    main(["completion", "bash"])
    (tmp_path / "script").write_text(capsys.readouterr().out)
    typed = "COMP_WORDS=(gptgan train x.yaml --adversarial.st); COMP_CWORD=3; _shtab_gptgan; echo ${COMPREPLY[@]}"
    done = subprocess.run(
        ["bash", "-c", f"source {tmp_path / 'script'}; {typed}"], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["--adversarial.steps"]


def test_help_is_given_wherever_it_is_asked_for(capsys) -> None:
    assert main(["train", "no.yaml", "-h"]) == 0
    assert "--likelihood.steps  integer, default 1000: number of batches; 0 skips the phase" in capsys.readouterr().out


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
