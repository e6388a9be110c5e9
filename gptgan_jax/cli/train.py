"""`gptgan train`: the run of a config, or one for each of several seeds."""

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
Trains the run that a config (a YAML file, such as configs/quickstart.yaml) describes; the same command again goes on
with it."""


def _train(given: Given) -> int:
    from gptgan_jax.config.files import load_config

    seeds = seeds_from(given.value("--seeds"))
    distributed = given.value("--distributed")
    config = load_config(given.file, [*given.overrides, *_profile(given.value("--profile"))])
    _check_profile(config)
    if seeds is not None and (distributed is not None or given.value("--extend") is not None):
        flag = "--extend" if distributed is None else "--distributed"
        raise UserError(f"--seeds trains one run after another; start it without {flag}")
    configure_jax()
    if given.value("--dry-run") is not None:
        from gptgan_jax.workflows.preview import preview

        print("\n".join(preview(config if seeds is None else _with_seed(config, config.seed), say)))
        return 0
    if given.value("--extend") is not None:
        from gptgan_jax.workflows.extension import extend

        extend(config, say)
    if distributed is not None:
        from gptgan_jax.distributed.hosts import connect

        connect(distributed or None, config.mesh.heartbeat_seconds)
        return to_its_end(lambda: _train_together(config))
    if seeds is None:
        return to_its_end(lambda: _train_alone(config))
    return to_its_end(lambda: _train_seeds(config, seeds))


def to_its_end(work: Callable[[], int]) -> int:
    """The exit status of work that trains; a signal, losses that are not finite or a full disk end it."""
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
        if jax.process_count() > 1:  # the others wait for this one in vain
            leave(1)
        return 1
    except Exception as error:
        line = failure_among_many(error)
        if line is None:
            raise
        print(f"gptgan: {line}", file=sys.stderr)
        leave(2 if isinstance(error, UserError) else 1)


def _train_alone(config: Config) -> int:
    folder = _train_one(config)
    print(f"\nreport: {folder / 'report.html'}    more texts: gptgan sample {folder}")
    return 0


def _train_together(config: Config) -> int:
    """In each of several processes; only one speaks, and evaluation is for a process of its own."""
    from gptgan_jax.distributed.hosts import is_main, who_is_here
    from gptgan_jax.workflows.run import train_run

    say(
        f"{who_is_here()}; if another one ends, so does this one, within {config.mesh.heartbeat_seconds} seconds, and "
        "the same command in all of them goes on from the last checkpoint"
    )
    folder = train_run(config, say if is_main() else lambda line: None)
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
    """The run of one of several seeds."""
    return dataclasses.replace(config, name=f"{config.name}-seed{seed}", seed=seed)


def seeds_from(text: str | None) -> int | None:
    """The number of --seeds."""
    return count_from("--seeds", text, MOST_SEEDS)


def count_from(flag: str, text: str | None, most: int) -> int | None:
    """The number that a flag is given, None where it isn't.

    Raises:
        UserError: it is no whole number from 1 to `most`.
    """
    if text is None:
        return None
    count = _whole(text)
    if count is None or count > most:
        raise UserError(f"{flag} {text[:40]!r} should be a whole number, at least 1 and at most {most}")
    return count


def _profile(text: str | None) -> list[str]:
    """What --profile A:B says as a key of the config."""
    if text is None:
        return []
    first, last = map(_whole, text.partition(":")[::2])
    if first is None or last is None or first > last:
        raise UserError(f"--profile {text[:40]!r} should be two global steps, such as 100:110, the first and the last")
    return ["--records.profile", f"[{first}, {last}]"]


def _whole(text: str) -> int | None:
    """The whole number above 0 that a text is; None for anything else. Python reads no more than 4,300 digits."""
    return int(text) or None if re.fullmatch(r"[0-9]{1,18}", text) else None


def _check_profile(config: Config) -> None:
    """Raises UserError where the steps to be traced are none of the run's."""
    steps = sum(config.steps(phase) for phase in PHASES)
    if config.records.profile and config.records.profile[1] > steps:
        first, last = config.records.profile
        raise UserError(
            f"records.profile: steps {first} to {last}, of a run of {steps}; the phases' steps are counted on"
        )


def _train_one(config: Config) -> Path:
    """Trains, evaluates and reports a run, and prints what it writes and its scores; its folder."""
    from gptgan_jax.reports.tables import score_table
    from gptgan_jax.runs.records import one_line
    from gptgan_jax.workflows.run import judge_run, train_run

    folder = train_run(config, say)
    outcome = judge_run(folder, say)
    for name, texts in outcome.shown.items():
        print(f"\n{name}:")
        for text in texts[:5]:
            print(f"  {one_line(text)}")
    print(f"\n{score_table(outcome.scores, outcome.means_something)}")
    return folder.path


SEEDS = Flag(
    "--seeds", "train N runs, NAME-seed0, NAME-seed1 and so on, one after another; compared in NAME-comparison", "N"
)
TRAIN = ConfigCommand(
    "train",
    "train the run that a config describes, or go on with it; train --help: all keys",
    _DESCRIPTION,
    (
        SEEDS,
        Flag("--dry-run", "tell what would be trained, with which text, and what that takes; write nothing"),
        Flag("--extend", "go on with a run whose last phase was made longer, such as --adversarial.steps 400"),
        Flag(
            "--profile",
            "write an XProf trace of the global steps A to B into RUN/profile (the key records.profile); it makes no "
            "other run",
            "A:B",
        ),
        Flag(
            "--distributed",
            "join several processes, with the same command in each: on a TPU pod and under SLURM as it is, elsewhere "
            "with HOST:PORT,COUNT,INDEX (of process 0; how many; which one this is)",
            "ADDRESS",
            optional=True,
        ),
    ),
    _train,
    lists_keys=True,
)
