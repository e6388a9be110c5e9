"""The command line: train, compare, data, sample, chat, classify, evaluate, export, import, report, compile.

Bad input ends in one line on standard error and exit status 2; a run stopped by a signal is saved, and the same command
goes on with it.
"""

import argparse
import os
import sys
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from gptgan_jax.config import EmbedderName
from gptgan_jax.data.units import UnitName
from gptgan_jax.errors import UserError
from gptgan_jax.import_command import add_import
from gptgan_jax.interruptions import as_process
from gptgan_jax.sample_command import CHECKPOINT_HELP, add_drawing, add_sample
from gptgan_jax.terminal import LARGEST_INT, check_folder, configure_jax, number, say


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; the exit status is 0 for done, 1 for failed, 2 for bad input, 130 for Ctrl-C.

    Without arguments it is those of this process, which has nothing else to do, and which Ctrl-C ends in time.
    """
    if arguments is None:
        return as_process(lambda: main(sys.argv[1:]))
    arguments = list(arguments)
    try:
        if arguments and arguments[0] in _WITH_KEYS:
            return _WITH_KEYS[arguments[0]](arguments[1:])
        options, keys = _parser().parse_known_args(arguments)
        if keys and not getattr(options, "config", None):
            raise UserError(f"unrecognized arguments: {' '.join(keys)}; see gptgan {arguments[0]} --help")
        return options.command(options, keys) if keys else options.command(options)
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
    commands.add_parser("data", help="write the text of a config into a file: prompts for a teacher, say")
    commands.add_parser("compile", help="compile a run for TPUs that need not be there: memory, FLOP, step time")

    run_help = "a run folder, such as runs/quickstart"
    add_sample(commands, run_help)

    classify = commands.add_parser("classify", help="tell the classes of a file's texts", allow_abbrev=False)
    classify.add_argument("run", type=Path, help=run_help)
    classify.add_argument(
        "file",
        type=Path,
        help=".jsonl, .csv, .tsv or .parquet with a column of texts, and perhaps of labels; or a text a line",
    )
    classify.add_argument(
        "--out",
        type=Path,
        help="a file for the JSON lines; a picture of the calibration goes beside it (default: print)",
    )
    classify.add_argument(
        "--checkpoint",
        default="best",
        help="best (default: fewest validation texts told wrong), last, warmup or adversarial, or a step number",
    )
    classify.set_defaults(command=_classify)

    chat = commands.add_parser(
        "chat", help="talk to a run that learned to answer", description=_CHAT_HELP, allow_abbrev=False
    )
    chat.add_argument("run", type=Path, help=run_help + "; or hf:FOLDER, gguf:FILE or hub:NAME, a model")
    add_drawing(chat)
    chat.add_argument(
        "--seed", type=number(int, 0, LARGEST_INT), default=0, help="equal seeds give equal replies (default 0)"
    )
    chat.add_argument("--checkpoint", default="best", help=CHECKPOINT_HELP)
    chat.set_defaults(command=_chat)

    evaluate = commands.add_parser("evaluate", help="score a run, or a file of samples", allow_abbrev=False)
    evaluate.add_argument(
        "run",
        type=Path,
        nargs="?",
        help=run_help + ", whose report is written anew; or with --config hf:FOLDER, gguf:FILE or hub:NAME, a model",
    )
    evaluate.add_argument(
        "--config", type=Path, help="of a model: whose text and evaluation it is; --data.key value sets keys over it"
    )
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
        "--seed", type=number(int, 0, LARGEST_INT), help="with --samples: of splits and judges (default 0)"
    )
    evaluate.add_argument(
        "--unit",
        choices=typing.get_args(UnitName),
        help="with --samples: of n-grams, words or characters (default auto: characters where the references have no "
        "spaces between words)",
    )
    evaluate.add_argument("--out", type=Path, help="with --samples: a folder for evaluation.json (default: none)")
    evaluate.set_defaults(command=_evaluate)

    export = commands.add_parser("export", help="write a run's generator as other programs read it", allow_abbrev=False)
    export.add_argument("run", type=Path, help=run_help)
    export.add_argument(
        "--to",
        choices=("hf", "stablehlo", "savedmodel"),
        required=True,
        help="hf: a Hugging Face folder; stablehlo: the sampler by jax.export; savedmodel: the same for TensorFlow",
    )
    export.add_argument("--out", type=Path, help="a folder that is not there yet (default: RUN/export/FORMAT)")
    export.add_argument("--checkpoint", default="best", help=CHECKPOINT_HELP)
    export.set_defaults(command=_export)

    add_import(commands)

    report = commands.add_parser("report", help="write report.html and report.md of one run, or compare several")
    report.add_argument("runs", type=Path, nargs="+", metavar="run", help=run_help)
    report.add_argument("--out", type=Path, help="folder of a comparison (default: report)")
    report.set_defaults(command=_report)
    return parser


_CHAT_HELP = (
    "Answers each line of the input, with what was said before it as far back as the longest prompt reaches. "
    "/reset forgets it, /quit or the end of input ends, Ctrl-C stops a reply."
)


def _classify(options: argparse.Namespace) -> int:
    configure_jax()

    from gptgan_jax.evaluation.classifier import class_figures
    from gptgan_jax.evaluation.classify import classify_file
    from gptgan_jax.evaluation.results import table_of
    from gptgan_jax.reports.classes import write_reliability
    from gptgan_jax.reports.tables import score_table
    from gptgan_jax.runs.folder import RunFolder
    from gptgan_jax.whole_files import write_whole

    if options.out is not None:
        if options.out.is_dir() or options.out.resolve() == options.file.resolve():
            raise UserError(f"--out {options.out}: give the name of a new file")
        check_folder("--out", options.out.parent)
    found = classify_file(RunFolder(options.run), options.file, options.checkpoint, say)
    lines = "".join(f"{line}\n" for line in found.lines())
    if options.out is None:
        print(lines, end="")
    else:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(options.out, lines.encode())
    figures = class_figures(found.told, "given", found.classes)
    stream = sys.stderr if options.out is None else sys.stdout
    if figures:
        print(f"\n{score_table(table_of({'classifier': figures}))}", file=stream)
    for note in found.notes:
        print(f"note: {note}", file=stream)
    if options.out is not None:
        picture = write_reliability(options.out, found.told.labelled().reliability())
        print(f"kept: {options.out}{f' and {picture}' if picture else ''}")
    return 0


def _chat(options: argparse.Namespace) -> int:
    configure_jax()

    from gptgan_jax.chat import chat, check_answers
    from gptgan_jax.evaluation.texts import Drawing
    from gptgan_jax.runs.pretrained import load_generator

    run, params, _ = load_generator(str(options.run), options.checkpoint, check=check_answers)
    drawing = Drawing(options.temperature, options.top_k, options.top_p)
    chat(run, params, drawing, options.seed, sys.stdin, sys.stdout, say)
    return 0


def _evaluate(options: argparse.Namespace, keys: Sequence[str] = ()) -> int:
    from gptgan_jax.pretrained.hub import is_model

    if (options.run is None) == (options.samples is None):
        raise UserError("give a run folder, or --samples FILE --references FILE")
    model = options.run is not None and is_model(str(options.run))
    if model != (options.config is not None):
        raise UserError(
            "a model (hf:FOLDER, gguf:FILE, hub:NAME) is evaluated with --config CONFIG; a run by its own config"
        )
    configure_jax()
    if options.samples is not None:
        return _evaluate_files(options)
    if model:
        return _evaluate_model(options, keys)

    from gptgan_jax.evaluation.final import evaluate_run
    from gptgan_jax.evaluation.sweep import sweep_run
    from gptgan_jax.reports.run import load_reported_run, write_run_report
    from gptgan_jax.reports.tables import score_table
    from gptgan_jax.runs.folder import RunFolder

    for name in ("references", "training", "out", "seed"):
        if getattr(options, name) is not None:
            raise UserError(f"--{name} goes with --samples; a run is judged by the text in its folder")
    if options.unit is not None:
        raise UserError("--unit goes with --samples; the unit of a run is evaluation.unit in its config.yaml")
    folder = RunFolder(options.run)
    outcome = evaluate_run(folder, say, embedder=options.embedder)
    if options.sweep:
        outcome = sweep_run(folder, say, options.embedder)
    report = write_run_report(load_reported_run(folder))
    for alarm in outcome.alarms:
        print(f"ALARM: {alarm}")
    print(f"\n{score_table(outcome.scores, outcome.means_something)}\n\nreport: {report}")
    return 0


def _evaluate_model(options: argparse.Namespace, keys: Sequence[str]) -> int:
    from gptgan_jax.evaluation.pretrained import evaluate_model
    from gptgan_jax.reports.tables import score_table

    for name in ("sweep", "references", "training", "seed"):
        if getattr(options, name):
            raise UserError(f"--{name} is not for a model as it came; drop it")
    if options.out is not None:
        check_folder("--out", options.out)
    overrides = [*keys, *(["--evaluation.embedder", options.embedder] if options.embedder else [])]
    outcome = evaluate_model(str(options.run), options.config, overrides, say)
    print(f"\n{score_table(outcome.scores)}\n")
    for note in outcome.notes:
        print(note)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        print(f"kept: {outcome.save(options.out)}")
    return 0


def _evaluate_files(options: argparse.Namespace) -> int:
    from gptgan_jax.evaluation.files import evaluate_files
    from gptgan_jax.reports.tables import score_table

    if options.references is None:
        raise UserError("--samples needs --references FILE: held-out real text, a text a line")
    if options.sweep:
        raise UserError("--sweep needs a run: a file of samples has no temperature to change")
    if options.out is not None:
        check_folder("--out", options.out)
    outcome = evaluate_files(
        options.samples,
        options.references,
        options.training,
        options.embedder or "language_model",
        options.seed or 0,
        say,
        options.unit or "auto",
    )
    print(f"\n{score_table(outcome.scores)}\n")
    for note in outcome.notes:
        print(note)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        print(f"kept: {outcome.save(options.out)}")
    return 0


def _report(options: argparse.Namespace) -> int:
    from gptgan_jax.reports.run import load_reported_run, write_run_report
    from gptgan_jax.runs.folder import RunFolder

    if len(options.runs) > 1:
        from gptgan_jax.running import compare_runs

        print(f"report: {compare_runs(options.runs, options.out or Path('report'))}")
        return 0
    if options.out is not None:
        raise UserError("--out is for a comparison of several runs; the report of one lies in its folder")
    print(f"report: {write_run_report(load_reported_run(RunFolder(options.runs[0])))}")
    return 0


def _export(options: argparse.Namespace) -> int:
    configure_jax()

    from gptgan_jax.export.folders import export_run
    from gptgan_jax.runs.folder import RunFolder

    print(f"exported: {export_run(RunFolder(options.run), options.to, options.out, options.checkpoint)}")
    return 0


def _compile(arguments: Sequence[str]) -> int:
    from gptgan_jax.compiling.command import run

    return run(arguments)


def _train(arguments: Sequence[str]) -> int:
    from gptgan_jax.training_commands import train

    return train(arguments)


def _compare(arguments: Sequence[str]) -> int:
    from gptgan_jax.training_commands import compare

    return compare(arguments)


def _data(arguments: Sequence[str]) -> int:
    from gptgan_jax.distilling import write_data

    return write_data(arguments)


_WITH_KEYS = {"train": _train, "compare": _compare, "data": _data, "compile": _compile}
