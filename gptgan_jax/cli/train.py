"""`gptgan train`: train the run of a config, or one run for each of several seeds."""

import dataclasses
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from gptgan_jax.cli.config_commands import ConfigCommand, Flag, Given
from gptgan_jax.config import MOST_SEEDS, PHASES, Config
from gptgan_jax.errors import UserError
from gptgan_jax.system.terminal import configure_jax, say

_DESCRIPTION = """
Trains the run that a config (a YAML file, such as configs/quickstart.yaml) describes. Repeat the command to resume an
unfinished run."""


def _train(given: Given) -> int:
    from gptgan_jax.config.files import load_config

    seeds = seeds_from(given.value("--seeds"))
    distributed = given.value("--distributed")
    config = load_config(given.file, [*given.overrides, *_profile(given.value("--profile"))])
    _check_profile(config)
    if seeds is not None and (distributed is not None or given.value("--extend") is not None):
        flag = "--extend" if distributed is None else "--distributed"
        raise UserError(f"--seeds trains one run after another; start it without {flag}")
    extend = given.value("--extend") is not None
    configure_jax()
    if given.value("--dry-run") is not None:
        from gptgan_jax.workflows.preview import preview

        print("\n".join(preview(config if seeds is None else _with_seed(config, config.seed), say, extend)))
        return 0
    if distributed is not None:
        from gptgan_jax.distributed.hosts import connect

        connect(distributed or None, config.mesh.heartbeat_seconds)
        return to_its_end(lambda: _train_together(config, extend))
    if seeds is None:
        return to_its_end(lambda: _train_alone(config, extend))
    return to_its_end(lambda: _train_seeds(config, seeds))


def to_its_end(work: Callable[[], int]) -> int:
    """Runs work that trains, and returns its exit status; a signal, non-finite losses or a full disk end it."""
    import jax

    from gptgan_jax.distributed.hosts import failure_among_many, leave
    from gptgan_jax.training.full_disk import NotWritten
    from gptgan_jax.training.signals import Interrupted, NotFinite

    try:
        return work()
    except Interrupted as interruption:
        say(str(interruption))
        return 130 if interruption.signal == signal.SIGINT else 0
    except NotFinite as error:
        print(f"gptgan: {error}", file=sys.stderr)
        return 1
    except NotWritten as error:
        print(f"gptgan: {error}", file=sys.stderr)
        if jax.process_count() > 1:  # otherwise they would wait for this one forever
            leave(1)
        return 1
    except Exception as error:
        line = failure_among_many(error)
        if line is None:
            raise
        print(f"gptgan: {line}", file=sys.stderr)
        leave(2 if isinstance(error, UserError) else 1)


def _train_alone(config: Config, extend: bool) -> int:
    folder = _train_one(config, extend)
    print(f"\nreport: {folder / 'report.html'}    more texts: gptgan sample {folder}")
    return 0


def _train_together(config: Config, extend: bool) -> int:
    """Trains in each of several processes; only one prints, and evaluation is left to a separate command."""
    from gptgan_jax.distributed.hosts import is_main, who_is_here
    from gptgan_jax.workflows.run import train_run

    say(
        f"{who_is_here()}; if another process ends, so does this one, within {config.mesh.heartbeat_seconds} seconds; "
        "repeat the command in all of them to resume from the last checkpoint"
    )
    folder = train_run(config, say if is_main() else lambda line: None, extend)
    if is_main():
        print(f"trained: {folder.path}    evaluate it in one process: gptgan evaluate {folder.path}")
    return 0


def _train_seeds(config: Config, seeds: int) -> int:
    from gptgan_jax.workflows.run import compare_runs

    folders = []
    for seed in range(config.seed, config.seed + seeds):
        one = _with_seed(config, seed)
        say(f"seed {seed}: {one.name}")
        folders.append(_train_one(one))
    print(f"report: {compare_runs(folders, Path(config.runs_folder) / f'{config.name}-comparison')}")
    return 0


def _with_seed(config: Config, seed: int) -> Config:
    """The config of the run for one of several seeds."""
    return dataclasses.replace(config, name=f"{config.name}-seed{seed}", seed=seed)


def seeds_from(text: str | None) -> int | None:
    """The value of --seeds."""
    return count_from("--seeds", text, MOST_SEEDS)


def count_from(flag: str, text: str | None, most: int) -> int | None:
    """The number that a flag was given; None without the flag.

    Raises:
        UserError: it is not a whole number from 1 to `most`.
    """
    if text is None:
        return None
    count = _whole(text)
    if count is None or count > most:
        raise UserError(f"{flag} {text[:40]!r} should be a whole number, at least 1 and at most {most}")
    return count


def _profile(text: str | None) -> list[str]:
    """--profile A:B as a key of the config."""
    if text is None:
        return []
    first, last = map(_whole, text.partition(":")[::2])
    if first is None or last is None or first > last:
        raise UserError(f"--profile {text[:40]!r} should be two global steps, the first and the last, such as 100:110")
    return ["--records.profile", f"[{first}, {last}]"]


def _whole(text: str) -> int | None:
    """The text as a whole number above 0; None for anything else. Python reads no more than 4,300 digits."""
    return int(text) or None if re.fullmatch(r"[0-9]{1,18}", text) else None


def _check_profile(config: Config) -> None:
    """Raises UserError if the run does not have the steps to be traced."""
    steps = sum(config.steps(phase) for phase in PHASES)
    if config.records.profile and config.records.profile[1] > steps:
        first, last = config.records.profile
        raise UserError(
            f"records.profile: steps {first} to {last}, but the run has {steps}; steps are counted across all phases"
        )


def _train_one(config: Config, extend: bool = False) -> Path:
    """Trains, evaluates and reports a run, prints samples and scores, and returns its folder."""
    from gptgan_jax.reports.tables import score_table
    from gptgan_jax.runs.records import one_line
    from gptgan_jax.workflows.run import judge_run, train_run

    folder = train_run(config, say, extend)
    outcome = judge_run(folder, say)
    for name, texts in outcome.shown.items():
        print(f"\n{name}:")
        for text in texts[:5]:
            print(f"  {one_line(text)}")
    print(f"\n{score_table(outcome.scores, outcome.means_something)}")
    return folder.path


SEEDS = Flag(
    "--seeds", "train N runs, NAME-seed0, NAME-seed1, ..., one after another, and compare them in NAME-comparison", "N"
)
TRAIN = ConfigCommand(
    "train",
    "train the run that a config describes, or resume it; train --help lists all keys",
    _DESCRIPTION,
    (
        SEEDS,
        Flag("--dry-run", "print what would be trained, on which text, and what it needs; write nothing"),
        Flag("--extend", "resume a run whose last phase was made longer, such as by --adversarial.steps 400"),
        Flag(
            "--profile",
            "write an XProf trace of global steps A to B to RUN/profile (the key records.profile); it does not change "
            "the run",
            "A:B",
        ),
        Flag(
            "--distributed",
            "run the same command in several processes that train together; ADDRESS is not needed on a TPU pod or "
            "under SLURM, elsewhere it is HOST:PORT,COUNT,INDEX (of process 0; how many processes; number of this one)",
            "ADDRESS",
            optional=True,
        ),
    ),
    _train,
    lists_keys=True,
)
