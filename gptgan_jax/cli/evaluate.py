"""`gptgan evaluate`: scores a run, a pre-trained model, or a file of samples."""

import argparse
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptgan_jax.config import EmbedderName
from gptgan_jax.errors import UserError
from gptgan_jax.system.terminal import LARGEST_INT, check_folder, configure_jax, number, say
from gptgan_jax.tokenization.units import UnitName

if TYPE_CHECKING:
    from gptgan_jax.evaluation.results import Evaluation


def add_evaluate(commands: Any, run_help: str) -> None:
    """Adds the command to a parser's."""
    evaluate = commands.add_parser("evaluate", help="score a run, a model, or a file of samples", allow_abbrev=False)
    evaluate.add_argument(
        "run",
        type=Path,
        nargs="?",
        help=run_help + ", whose report is rewritten; or, with --config, a model: hf:FOLDER, gguf:FILE or hub:NAME",
    )
    evaluate.add_argument(
        "--config",
        type=Path,
        help="for a model: the config that gives the text and the evaluation; --data.key value overrides its keys",
    )
    evaluate.add_argument(
        "--sweep",
        action="store_true",
        help="also compare the run's generators over a grid of temperature and top-p: does the GAN gain at equal "
        "diversity?",
    )
    evaluate.add_argument(
        "--samples",
        type=Path,
        help="instead of a run: a file of samples, one text per line; or .jsonl, .csv, .tsv or .parquet with a column "
        "response or text",
    )
    evaluate.add_argument(
        "--references", type=Path, help="with --samples: held-out real text, one per line or a column text"
    )
    evaluate.add_argument(
        "--training", type=Path, help="with --samples: the text their model was trained on (optional), in the same form"
    )
    evaluate.add_argument(
        "--embedder",
        choices=typing.get_args(EmbedderName),
        help="embeds the texts (default: evaluation.embedder of the run; language_model with --samples)",
    )
    evaluate.add_argument(
        "--seed",
        type=number(int, 0, LARGEST_INT),
        help="with --samples: seed of the splits and of the scoring models (default 0)",
    )
    evaluate.add_argument(
        "--unit",
        choices=typing.get_args(UnitName),
        help="with --samples: unit of the n-grams: words, characters, or tokens of --tokenizer (default auto: words, "
        "or characters if the references have no spaces between words)",
    )
    evaluate.add_argument(
        "--tokenizer", type=Path, help="with --samples and --unit token: a run folder or a tokenizer.json"
    )
    evaluate.add_argument(
        "--out", type=Path, help="with --samples or a model: a folder for evaluation.json (default: not saved)"
    )
    evaluate.set_defaults(command=_evaluate)


def _evaluate(options: argparse.Namespace, keys: Sequence[str] = ()) -> int:
    from gptgan_jax.pretrained.hub import is_model

    if (options.run is None) == (options.samples is None):
        raise UserError("give a run folder, or --samples FILE --references FILE")
    model = options.run is not None and is_model(str(options.run))
    if model != (options.config is not None):
        raise UserError(
            "a model (hf:FOLDER, gguf:FILE, hub:NAME) is evaluated with --config CONFIG; a run with its own config"
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
    from gptgan_jax.workflows.run import show_scores

    for name in ("references", "training", "out", "seed", "tokenizer"):
        if getattr(options, name) is not None:
            raise UserError(f"--{name} goes with --samples; a run is evaluated on the text in its folder")
    if options.unit is not None:
        raise UserError("--unit goes with --samples; the unit of a run is evaluation.unit in its config.yaml")
    folder = RunFolder(options.run)
    outcome = evaluate_run(folder, say, embedder=options.embedder)
    if options.sweep:
        outcome = sweep_run(folder, say, options.embedder)
    show_scores(folder, outcome, say)
    report = write_run_report(load_reported_run(folder))
    for alarm in outcome.alarms:
        print(f"ALARM: {alarm}")
    print(f"\n{score_table(outcome.scores, outcome.means_something)}\n\nreport: {report}")
    return 0


def _evaluate_model(options: argparse.Namespace, keys: Sequence[str]) -> int:
    from gptgan_jax.evaluation.without_run import evaluate_model

    for name in ("sweep", "references", "training", "seed", "unit", "tokenizer"):
        if (given := getattr(options, name)) is not None and given is not False:
            instead = "set --evaluation.unit" if name == "unit" else "drop it"
            raise UserError(f"--{name} is not for a pre-trained model; {instead}")
    if options.out is not None:
        check_folder("--out", options.out)
    overrides = [*keys, *(["--evaluation.embedder", options.embedder] if options.embedder else [])]
    outcome = evaluate_model(str(options.run), options.config, overrides, say)
    return _print_and_keep(outcome, options.out)


def _evaluate_files(options: argparse.Namespace) -> int:
    from gptgan_jax.evaluation.without_run import evaluate_files

    if options.references is None:
        raise UserError("--samples needs --references FILE: held-out real text, one text per line")
    if options.sweep:
        raise UserError("--sweep needs a run: a file of samples has no temperature to change")
    if (options.unit == "token") != (options.tokenizer is not None):
        raise UserError(
            "--unit token goes with --tokenizer PATH, a run folder or a tokenizer.json: files of text have no tokens"
        )
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
        options.tokenizer,
    )
    return _print_and_keep(outcome, options.out)


def _print_and_keep(outcome: "Evaluation", out: Path | None) -> int:
    """Prints an evaluation that belongs to no run, and saves it if a folder is given; returns 0."""
    from gptgan_jax.reports.tables import score_table

    print(f"\n{score_table(outcome.scores)}\n")
    for note in outcome.notes:
        print(note)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        print(f"saved: {outcome.save(out)}")
    return 0
