"""The command line: train, sample, evaluate.

Bad input ends in one line on standard error and exit status 2; a run stopped by a signal is saved, and the same command
goes on with it.
"""

import argparse
import math
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from gptgan_jax.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; the exit status is 0 for done, 1 for failed, 2 for bad input, 130 for Ctrl-C."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if arguments[:1] == ["train"]:
            return _train(arguments[1:])
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
    # `main` hands train's arguments to `_train` itself: its overrides are keys of the config, not flags of a parser.
    commands.add_parser("train", help="train the run that a config describes, or go on with it; train --help: all keys")

    run_help = "a run folder, such as runs/quickstart"
    sample = commands.add_parser("sample", help="write texts with a run's generator", allow_abbrev=False)
    sample.add_argument("run", type=Path, help=run_help)
    sample.add_argument("--num", type=_number(int, 1), default=10, help="how many texts (default 10)")
    sample.add_argument("--temperature", type=_number(float, 0), default=1.0, help="0 is greedy (default 1.0)")
    sample.add_argument(
        "--top-k", type=_number(int, 0), default=0, help="draw from the k likeliest tokens (default 0: off)"
    )
    sample.add_argument(
        "--top-p",
        type=_number(float, 0.001, 1),
        default=1.0,
        help="draw from the likeliest tokens that make up this probability (default 1: off)",
    )
    sample.add_argument("--prompt", help="what each text begins with, or answers (default: nothing)")
    sample.add_argument("--seed", type=_number(int, 0), default=0, help="equal seeds write equal texts (default 0)")
    sample.add_argument("--checkpoint", default="best", help=_CHECKPOINT_HELP)
    sample.set_defaults(command=_sample)

    evaluate = commands.add_parser("evaluate", help="score a run on held-out text and write its report.md")
    evaluate.add_argument("run", type=Path, help=run_help)
    evaluate.set_defaults(command=_evaluate)
    return parser


_CHECKPOINT_HELP = (
    "best (default: least validation loss in the last phase that trained the generator), last, "
    "likelihood or adversarial (that phase's best), or a step number"
)
_TRAIN_HELP = """usage: gptgan train CONFIG [--key.path value ...]

Trains the run that a config (a YAML file, such as configs/quickstart.yaml) describes; the same command again goes on
with it. Every key below can be set on the command line, and overrides the file.
"""


def _number(kind: Callable[[str], float], low: float, high: float = math.inf) -> Callable[[str], float]:
    """An argparse type: a finite number from low to high."""

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high or math.isinf(value):
            most = "" if math.isinf(high) else f", at most {high:g}"
            noun = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"{text!r} should be {noun}, at least {low:g}{most}")
        return value

    return parse


def _train(arguments: Sequence[str]) -> int:
    from gptgan_jax.config_files import describe_keys, load_config

    if "-h" in arguments or "--help" in arguments:
        print(_TRAIN_HELP + describe_keys())
        return 0
    if not arguments or arguments[0].startswith("-"):
        raise UserError("give a config first: gptgan train CONFIG [--key.path value ...]; some are in configs/")
    config = load_config(arguments[0], arguments[1:])
    _configure_jax()

    from gptgan_jax.evaluation.final import evaluate_run
    from gptgan_jax.evaluation.report import REPORT_FILE, score_table
    from gptgan_jax.runs.experiment import load_experiment
    from gptgan_jax.runs.folder import RunFolder
    from gptgan_jax.runs.records import one_line
    from gptgan_jax.training.loop import Interrupted, NotFinite, train

    folder = RunFolder.of(config)
    experiment = load_experiment(config, folder.read_tokenizer() if folder.check(config) else None)
    for note in experiment.notes:
        _say(f"note: {note}")
    try:
        train(experiment, folder, _say)
    except Interrupted as interruption:
        _say(str(interruption))
        return 130 if interruption.signal == signal.SIGINT else 0
    except NotFinite as error:
        print(f"gptgan: {error}", file=sys.stderr)
        return 1
    outcome = evaluate_run(folder, _say)
    for name, texts in outcome.shown.items():
        print(f"\n{name}:")
        for text in texts[:5]:
            print(f"  {one_line(text)}")
    print(f"\n{score_table(outcome.scores)}\n")
    print(f"report: {folder.path / REPORT_FILE}    more texts: gptgan sample {folder.path}")
    return 0


def _sample(options: argparse.Namespace) -> int:
    _configure_jax()

    from gptgan_jax.evaluation.texts import Drawing, TextWriter
    from gptgan_jax.runs.checkpoints import Checkpoints
    from gptgan_jax.runs.experiment import load_writer, read_prompt, restore_generator
    from gptgan_jax.runs.folder import RunFolder
    from gptgan_jax.runs.records import one_line

    folder = RunFolder(options.run)
    run = load_writer(folder)
    prompt, length = read_prompt(run, options.prompt or "")
    with Checkpoints(folder.checkpoints, read_only=True) as checkpoints:
        params = restore_generator(checkpoints, checkpoints.choose(options.checkpoint), run.config, run.generator)
    writer = TextWriter(run.generator, run.tokenizer, length)
    drawing = Drawing(options.temperature, options.top_k, options.top_p)
    written = writer(params, options.seed, options.num, drawing, [prompt])
    for tokens, mask in zip(written.tokens, written.mask, strict=True):
        # Decoded together with what they begin with, for a token may go on with a word of the prompt.
        begin = [] if run.conditional else prompt
        print(one_line(run.tokenizer.decode([*begin, *tokens[mask].tolist()])))
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    _configure_jax()

    from gptgan_jax.evaluation.final import evaluate_run
    from gptgan_jax.evaluation.report import REPORT_FILE, score_table
    from gptgan_jax.runs.folder import RunFolder

    folder = RunFolder(options.run)
    outcome = evaluate_run(folder, _say)
    print(f"\n{score_table(outcome.scores)}\n\nreport: {folder.path / REPORT_FILE}")
    return 0


def _configure_jax() -> None:
    """Keeps compiled programs between runs, where the user has not chosen a place already."""
    import jax

    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "gptgan_jax" / "xla"
        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
