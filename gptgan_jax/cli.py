"""The command line: train, compare, sample, evaluate, report, compile.

Bad input ends in one line on standard error and exit status 2; a run stopped by a signal is saved, and the same command
goes on with it.
"""

import argparse
import dataclasses
import math
import os
import re
import signal
import sys
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from gptgan_jax.config import MOST_SEEDS, PHASES, Config, EmbedderName
from gptgan_jax.errors import UserError

# Of one call; they are held in memory.
MOST_TEXTS = 1_000_000
LARGEST_INT = 2**31 - 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; the exit status is 0 for done, 1 for failed, 2 for bad input, 130 for Ctrl-C."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if arguments and arguments[0] in _WITH_KEYS:
            return _WITH_KEYS[arguments[0]](arguments[1:])
        options = _parser().parse_args(arguments)
        return options.command(options)
    except UserError as error:
        print(f"gptgan: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # Whoever read the output, such as `head`, has seen enough; Python must not flush into the closed pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("gptgan: interrupted", file=sys.stderr)
        return 130


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line like all others."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="gptgan", description="GPT text GANs in JAX.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    # `main` hands the arguments of these on by itself: their overrides are keys of the config, not flags of a parser.
    commands.add_parser("train", help="train the run that a config describes, or go on with it; train --help: all keys")
    commands.add_parser("compare", help="train several adversarial methods from one likelihood training, and compare")
    commands.add_parser("compile", help="compile a run for TPUs that need not be there: memory, FLOP, step time")

    run_help = "a run folder, such as runs/quickstart"
    sample = commands.add_parser("sample", help="write texts with a run's generator", allow_abbrev=False)
    sample.add_argument("run", type=Path, help=run_help)
    sample.add_argument("--num", type=_number(int, 1, MOST_TEXTS), default=10, help="how many texts (default 10)")
    sample.add_argument("--temperature", type=_number(float, 0), default=1.0, help="0 is greedy (default 1.0)")
    sample.add_argument(
        "--top-k",
        type=_number(int, 0, LARGEST_INT),
        default=0,
        help="draw from the k likeliest tokens (default 0: off)",
    )
    sample.add_argument(
        "--top-p",
        type=_number(float, 0.001, 1),
        default=1.0,
        help="draw from the likeliest tokens that make up this probability (default 1: off)",
    )
    sample.add_argument("--prompt", help="what each text begins with, or answers (default: nothing)")
    sample.add_argument(
        "--seed", type=_number(int, 0, LARGEST_INT), default=0, help="equal seeds write equal texts (default 0)"
    )
    sample.add_argument("--checkpoint", default="best", help=_CHECKPOINT_HELP)
    sample.add_argument(
        "--resample",
        type=_number(int, 2, MOST_TEXTS),
        metavar="N",
        help="choose each text out of N by the discriminator; of the warmed-up pair unless --checkpoint names another",
    )
    sample.set_defaults(command=_sample)

    evaluate = commands.add_parser("evaluate", help="score a run, or a file of samples", allow_abbrev=False)
    evaluate.add_argument("run", type=Path, nargs="?", help=run_help + "; its report is written anew")
    evaluate.add_argument(
        "--sweep", action="store_true", help="temperature x top-p over the run's generators: the verdict on the GAN"
    )
    evaluate.add_argument("--samples", type=Path, help="instead of a run: a file of samples, a text a line")
    evaluate.add_argument("--references", type=Path, help="with --samples: held-out real text, a text a line")
    evaluate.add_argument("--training", type=Path, help="with --samples: what their model was trained on (optional)")
    evaluate.add_argument(
        "--embedder",
        choices=typing.get_args(EmbedderName),
        help="what turns texts into vectors (default: evaluation.embedder of the run; language_model)",
    )
    evaluate.add_argument(
        "--seed", type=_number(int, 0, LARGEST_INT), help="with --samples: of splits and judges (default 0)"
    )
    evaluate.add_argument("--out", type=Path, help="with --samples: a folder for evaluation.json (default: none)")
    evaluate.set_defaults(command=_evaluate)

    report = commands.add_parser("report", help="write report.html and report.md of one run, or compare several")
    report.add_argument("runs", type=Path, nargs="+", metavar="run", help=run_help)
    report.add_argument("--out", type=Path, help="folder of a comparison (default: report)")
    report.set_defaults(command=_report)
    return parser


_CHECKPOINT_HELP = (
    "best (default: least validation loss in the last phase that trained the generator), last, "
    "likelihood or adversarial (that phase's best), or a step number"
)
_TRAIN_HELP = """usage: gptgan train CONFIG [--seeds N] [--profile A:B] [--distributed [ADDRESS]] [--key.path value ...]

Trains the run that a config (a YAML file, such as configs/quickstart.yaml) describes; the same command again goes on
with it. With --seeds N it trains N runs, NAME-seed0, NAME-seed1 and so on, one after another, and compares them in
NAME-comparison. --profile A:B writes an XProf trace of the global steps A to B into the run's folder `profile` (the key
records.profile), and doesn't make it another run. --distributed, the same command in every process, joins several
processes: on a TPU pod and under SLURM as it is, elsewhere with HOST:PORT,COUNT,INDEX (of process 0; how many; which
one this is). Every key below can be set on the command line, over the file.
"""
_COMPARE_HELP = """usage: gptgan compare FILE [--seeds N] [--key.path value ...]

Trains several adversarial methods from one likelihood training and compares them with it, over seeds. FILE is YAML:

  base: oracle_lstm.yaml          # a config, from FILE's folder: text, networks, likelihood training, evaluation
  seeds: 3                        # default 1; from the base's seed on
  set: {adversarial.steps: 200}   # keys of every run
  arms:
    reinforce: {}                 # the base's own method
    seqgan: {preset: seqgan.yaml, set: {warmup.steps: 100}}    # another config's discriminator, objective, warmup and
                                                               # adversarial sections, and keys over them
    constant reward: {set: {objective.reward: constant}}       # a control

NAME is FILE's name without its ending. For each seed it trains and sweeps runs/NAME/likelihood-seedK (with the
continued likelihood training), and from its best runs/NAME/ARM-seedK for each arm; then runs/NAME/comparison has
report.html, report.md and comparison.json, and the table is printed. The same command again goes on with what is not
done yet. --key.path value sets a key of every run, over all files; gptgan train --help lists the keys.
"""


def _number(kind: Callable[[str], float], low: float, high: float = math.inf) -> Callable[[str], float]:
    """An argparse type: a finite number from low to high."""

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high or math.isinf(value):
            most = "" if math.isinf(high) else f", at most {high}"
            noun = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"{text[:40]!r} should be {noun}, at least {low:g}{most}")
        return value

    return parse


def _train(arguments: Sequence[str]) -> int:
    from gptgan_jax.config_files import describe_keys, load_config

    if "-h" in arguments or "--help" in arguments:
        print(_TRAIN_HELP + describe_keys())
        return 0
    if not arguments or arguments[0].startswith("-"):
        raise UserError("give a config first: gptgan train CONFIG [--key.path value ...]; some are in configs/")
    seeds, overrides = _seeds(arguments[1:])
    profiled, overrides = _profile(overrides)
    distributed, overrides = _distributed(overrides)
    config = load_config(arguments[0], [*overrides, *profiled])
    _check_profile(config)
    _configure_jax()
    if distributed is not None:
        from gptgan_jax.hosts import connect

        if seeds is not None:
            raise UserError("--seeds trains one run after another; start it without --distributed")
        connect(distributed or None, config.mesh.heartbeat_seconds)
        return _to_its_end(lambda: _train_together(config))
    if seeds is None:
        return _to_its_end(lambda: _train_alone(config))
    return _to_its_end(lambda: _train_seeds(config, seeds))


def _to_its_end(work: Callable[[], int]) -> int:
    """The exit status of work that trains; a signal, losses that are not finite or a full disk end it."""
    import jax

    from gptgan_jax.hosts import failure_among_many, leave
    from gptgan_jax.runs.full_disk import NotWritten
    from gptgan_jax.training.phase_run import Interrupted, NotFinite

    try:
        return work()
    except Interrupted as interruption:
        _say(str(interruption))
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
    """In each of several processes; only one speaks, and judging is for a process of its own."""
    from gptgan_jax.hosts import is_main, who_is_here
    from gptgan_jax.running import train_run

    _say(
        f"{who_is_here()}; if another one ends, so does this one, within {config.mesh.heartbeat_seconds} seconds, and "
        "the same command in all of them goes on from the last checkpoint"
    )
    folder = train_run(config, _say if is_main() else lambda line: None)
    if is_main():
        print(f"trained: {folder.path}    judge it in one process: gptgan evaluate {folder.path}")
    return 0


def _train_seeds(config: Config, seeds: int) -> int:
    folders = []
    for seed in range(config.seed, config.seed + seeds):
        one = dataclasses.replace(config, name=f"{config.name}-seed{seed}", seed=seed)
        _say(f"seed {seed}: {one.name}")
        folders.append(_train_one(one))
    return _compare_runs(folders, Path(config.runs_folder) / f"{config.name}-comparison")


def _compare(arguments: Sequence[str]) -> int:
    from gptgan_jax.comparing import compare, load_comparison

    if "-h" in arguments or "--help" in arguments:
        print(_COMPARE_HELP, end="")
        return 0
    if not arguments or arguments[0].startswith("-"):
        raise UserError("give a file first: gptgan compare FILE [--seeds N] [--key.path value ...]; see --help")
    seeds, overrides = _seeds(arguments[1:])
    comparison = load_comparison(arguments[0], seeds, overrides)
    _configure_jax()

    def work() -> int:
        table, report, failed = compare(comparison, _say)
        print(f"\n{table}\n\nreport: {report}")
        for run, reason in failed.items():
            print(f"gptgan: {run} failed: {reason}", file=sys.stderr)
        return 1 if failed else 0

    return _to_its_end(work)


def _seeds(arguments: Sequence[str]) -> tuple[int | None, list[str]]:
    """The number behind --seeds, and the other arguments."""
    rest: list[str] = []
    seeds: int | None = None
    given = list(arguments)
    while given:
        flag, equals, text = given.pop(0).partition("=")
        if flag != "--seeds":
            rest.append(flag + equals + text)
            continue
        if not equals:
            text = given.pop(0) if given else ""
        seeds = _whole(text)
        if seeds is None or seeds > MOST_SEEDS:
            raise UserError(f"--seeds {text[:40]!r} should be a whole number, at least 1 and at most {MOST_SEEDS}")
    return seeds, rest


def _whole(text: str) -> int | None:
    """The whole number above 0 that a text is; None for anything else. Python reads no more than 4,300 digits."""
    return int(text) or None if re.fullmatch(r"[0-9]{1,18}", text) else None


def _profile(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """What --profile A:B says as a key of the config, and the other arguments."""
    rest, given = [], list(arguments)
    found: list[str] = []
    while given:
        flag, equals, text = given.pop(0).partition("=")
        if flag != "--profile":
            rest.append(flag + equals + text)
            continue
        if not equals:
            text = given.pop(0) if given else ""
        first, last = map(_whole, text.partition(":")[::2])
        if first is None or last is None or first > last:
            raise UserError(
                f"--profile {text[:40]!r} should be two global steps, such as 100:110, the first and the last"
            )
        found = ["--records.profile", f"[{first}, {last}]"]
    return found, rest


def _distributed(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """The address behind --distributed (empty where there is none; None without the flag), and the other arguments."""
    rest, given = [], list(arguments)
    found: str | None = None
    while given:
        argument = given.pop(0)
        flag, _, text = argument.partition("=")
        if flag != "--distributed":
            rest.append(argument)
            continue
        found = text
        if not text and given and not given[0].startswith("--"):
            found = given.pop(0)
    return found, rest


def _check_profile(config: Config) -> None:
    """Raises UserError where the steps to be traced are none of the run's."""
    steps = sum(config.steps(phase) for phase in PHASES)
    if config.records.profile and config.records.profile[1] > steps:
        first, last = config.records.profile
        raise UserError(
            f"records.profile: steps {first} to {last}, of a run of {steps}; the phases' steps are counted on"
        )


def _train_one(config: Config) -> Path:
    """Trains, judges and reports a run, and prints what it writes and its scores; its folder."""
    from gptgan_jax.reports.tables import score_table
    from gptgan_jax.running import judge_run, train_run
    from gptgan_jax.runs.records import one_line

    folder = train_run(config, _say)
    outcome = judge_run(folder, _say)
    for name, texts in outcome.shown.items():
        print(f"\n{name}:")
        for text in texts[:5]:
            print(f"  {one_line(text)}")
    print(f"\n{score_table(outcome.scores)}")
    return folder.path


def _sample(options: argparse.Namespace) -> int:
    _configure_jax()

    from gptgan_jax.evaluation.residual import resampler, restore_networks
    from gptgan_jax.evaluation.texts import Drawing, TextWriter
    from gptgan_jax.runs.checkpoints import Checkpoints
    from gptgan_jax.runs.experiment import load_writer, read_prompt, restore_generator
    from gptgan_jax.runs.folder import RunFolder
    from gptgan_jax.runs.records import one_line

    folder = RunFolder(options.run)
    run = load_writer(folder)
    if options.resample is not None and run.conditional:
        raise UserError("--resample is for runs without prompts; drop it")
    prompt, length = read_prompt(run, options.prompt or "")
    with Checkpoints(folder.checkpoints, read_only=True) as checkpoints:
        params: Any
        if options.resample is None:
            params = restore_generator(checkpoints, checkpoints.choose(options.checkpoint), run.config, run.generator)
            writer = TextWriter(run.generator, run.tokenizer, length)
        else:
            if prompt:
                raise UserError("--resample chooses among whole texts; drop --prompt")
            if not run.config.warmup.steps:
                raise UserError("--resample needs a run with a warm-up (warmup.steps), to judge by its discriminator")
            saved = checkpoints.choose("warmup" if options.checkpoint == "best" else options.checkpoint)
            if saved.phase in ("likelihood", "continued"):
                raise UserError(
                    f"--resample: the discriminator of checkpoint {saved.phase}/{saved.step} has learned nothing yet; "
                    "drop --checkpoint"
                )
            networks = restore_networks(checkpoints, saved, run)
            params = networks.both
            writer = TextWriter(run.generator, run.tokenizer, length, sampler=resampler(networks, options.resample))
    drawing = Drawing(options.temperature, options.top_k, options.top_p)
    written = writer(params, options.seed, options.num, drawing, [prompt])
    for tokens, mask in zip(written.tokens, written.mask, strict=True):
        # Decoded together with what they begin with, for a token may go on with a word of the prompt.
        begin = [] if run.conditional else prompt
        print(one_line(run.tokenizer.decode([*begin, *tokens[mask].tolist()])))
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    if (options.run is None) == (options.samples is None):
        raise UserError("give a run folder, or --samples FILE --references FILE")
    _configure_jax()
    if options.samples is not None:
        return _evaluate_files(options)

    from gptgan_jax.evaluation.final import evaluate_run
    from gptgan_jax.evaluation.sweep import sweep_run
    from gptgan_jax.reports.run import load_reported_run, write_run_report
    from gptgan_jax.reports.tables import score_table
    from gptgan_jax.runs.folder import RunFolder

    for name in ("references", "training", "out", "seed"):
        if getattr(options, name) is not None:
            raise UserError(f"--{name} goes with --samples; a run is judged by the text in its folder")
    folder = RunFolder(options.run)
    outcome = evaluate_run(folder, _say, embedder=options.embedder)
    if options.sweep:
        outcome = sweep_run(folder, _say, options.embedder)
    report = write_run_report(load_reported_run(folder))
    print(f"\n{score_table(outcome.scores)}\n\nreport: {report}")
    return 0


def _evaluate_files(options: argparse.Namespace) -> int:
    from gptgan_jax.evaluation.files import evaluate_files
    from gptgan_jax.reports.tables import score_table

    if options.references is None:
        raise UserError("--samples needs --references FILE: held-out real text, a text a line")
    if options.sweep:
        raise UserError("--sweep needs a run: a file of samples has no temperature to change")
    if options.out is not None:
        _check_folder("--out", options.out)
    outcome = evaluate_files(
        options.samples,
        options.references,
        options.training,
        options.embedder or "language_model",
        options.seed or 0,
        _say,
    )
    print(f"\n{score_table(outcome.scores)}\n")
    for note in outcome.notes:
        print(note)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        print(f"kept: {outcome.save(options.out)}")
    return 0


def _check_folder(flag: str, folder: Path) -> None:
    """Raises UserError where a folder can neither be written to nor be made."""
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(path))
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise UserError(f"{flag} {folder}: {existing} is no folder that can be written; give another")


def _report(options: argparse.Namespace) -> int:
    from gptgan_jax.reports.run import load_reported_run, write_run_report
    from gptgan_jax.runs.folder import RunFolder

    if len(options.runs) > 1:
        return _compare_runs(options.runs, options.out or Path("report"))
    if options.out is not None:
        raise UserError("--out is for a comparison of several runs; the report of one lies in its folder")
    print(f"report: {write_run_report(load_reported_run(RunFolder(options.runs[0])))}")
    return 0


def _compare_runs(folders: Sequence[Path], out: Path) -> int:
    from gptgan_jax.reports.comparison import write_comparison
    from gptgan_jax.reports.run import load_reported_run
    from gptgan_jax.runs.folder import RunFolder

    runs = [load_reported_run(RunFolder(folder)) for folder in folders]
    print(f"report: {write_comparison(runs, out)}")
    return 0


def _compile(arguments: Sequence[str]) -> int:
    from gptgan_jax.compiling.command import run

    return run(arguments, _say)


_WITH_KEYS = {"train": _train, "compare": _compare, "compile": _compile}


def _configure_jax() -> None:
    """Keeps compiled programs between runs, where the user has not chosen a place already."""
    import jax

    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gptgan_jax" / "xla"
        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
