"""`gptgan classify` and `gptgan score`: apply a run's discriminator to the texts of a file."""

import argparse
import sys
from pathlib import Path
from typing import Any

from gptgan_jax.errors import UserError
from gptgan_jax.system.terminal import LARGEST_INT, check_new_file, configure_jax, number, say, write_lines

# The most texts in one call, which are held in memory, and on one page, which a browser holds.
MOST_TEXTS, MOST_SHOWN = 100_000, 1000


def add_classify(commands: Any, run_help: str) -> None:
    """Adds the command to a parser's."""
    classify = commands.add_parser("classify", help="classify the texts of a file", allow_abbrev=False)
    classify.add_argument("run", type=Path, help=run_help)
    classify.add_argument(
        "file",
        type=Path,
        help=".jsonl, .csv, .tsv or .parquet with a column of texts and optionally one of labels; or one text per line",
    )
    classify.add_argument(
        "--out",
        type=Path,
        help="file for the JSON lines; a calibration plot is written beside it (default: print)",
    )
    classify.add_argument(
        "--checkpoint",
        default="best",
        help="best (default: fewest misclassified validation texts), last, warmup, adversarial, or a step number",
    )
    classify.set_defaults(command=_classify)


def _classify(options: argparse.Namespace) -> int:
    configure_jax()

    from gptgan_jax.evaluation.results import table_of
    from gptgan_jax.reports.classes import write_reliability
    from gptgan_jax.reports.tables import score_table
    from gptgan_jax.runs.folder import RunFolder
    from gptgan_jax.scoring.classifier import class_figures
    from gptgan_jax.workflows.classify import classify_file

    check_new_file("--out", options.out, options.file)
    found = classify_file(RunFolder(options.run), options.file, options.checkpoint, say)
    write_lines(found.lines(), options.out)
    figures = class_figures(found.told, "given", found.classes)
    stream = sys.stderr if options.out is None else sys.stdout
    if figures:
        print(f"\n{score_table(table_of({'classifier': figures}))}", file=stream)
    for note in found.notes:
        print(f"note: {note}", file=stream)
    if options.out is not None:
        picture = write_reliability(options.out, found.told.labelled().reliability())
        print(f"saved: {options.out}{f' and {picture}' if picture else ''}")
    return 0


def add_score(commands: Any, run_help: str) -> None:
    """Adds the command to a parser's."""
    score = commands.add_parser(
        "score", help="score texts with a run's discriminator, token by token", allow_abbrev=False
    )
    score.add_argument("run", type=Path, help=run_help)
    score.add_argument(
        "file",
        type=Path,
        nargs="?",
        help=".jsonl, .csv, .tsv or .parquet with a column of texts (and one of prompts, if the run has prompts); or "
        "one text per line",
    )
    score.add_argument(
        "--samples",
        type=number(int, 1, MOST_TEXTS),
        metavar="N",
        help="instead of FILE: N texts sampled from the checkpoint's own generator",
    )
    score.add_argument(
        "--seed",
        type=number(int, 0, LARGEST_INT),
        help="with --samples: equal seeds give equal texts (default 0)",
    )
    score.add_argument(
        "--text-column", metavar="NAME", help="with FILE: column of the texts (default: the run's data.text_column)"
    )
    score.add_argument(
        "--prompt-column",
        metavar="NAME",
        help="with FILE: column of the prompts (default: the run's data.prompt_column)",
    )
    score.add_argument("--out", type=Path, metavar="FILE", help="file for the JSON lines (default: print)")
    score.add_argument(
        "--html",
        type=Path,
        metavar="FILE",
        help="write a page with the texts, each token coloured by what it adds to the score",
    )
    score.add_argument(
        "--checkpoint",
        default="best",
        help="best (default: the best of the adversarial phase, or the last of the warm-up if there is none), last, "
        "warmup, adversarial, or a step number",
    )
    score.set_defaults(command=_score)


def _score(options: argparse.Namespace) -> int:
    if (options.file is None) == (options.samples is None):
        raise UserError("give a file of texts, or --samples N")
    rows = "a file of rows, and samples have no columns; drop it"
    others = {"text_column": rows, "prompt_column": rows}
    if options.samples is None:
        others = {"seed": "--samples N, and the texts of a file are there already; drop it"}
    for name, what in others.items():
        if getattr(options, name) is not None:
            raise UserError(f"--{name.replace('_', '-')} goes with {what}")
    check_new_file("--out", options.out, options.file)
    check_new_file("--html", options.html, options.file)
    if options.html is not None and options.out is not None and options.html.resolve() == options.out.resolve():
        raise UserError(f"--html and --out are both {options.out}: give two files")
    configure_jax()

    from gptgan_jax.evaluation.results import scored_text, table_of
    from gptgan_jax.metrics.error_places import NOWHERE
    from gptgan_jax.reports.classes import write_score_page
    from gptgan_jax.reports.tables import score_table
    from gptgan_jax.runs.folder import RunFolder
    from gptgan_jax.tokenization.chat_templates import prompt_text
    from gptgan_jax.workflows.score import score_texts

    columns = (options.text_column, options.prompt_column)
    folder = RunFolder(options.run)
    found = score_texts(folder, options.file, options.samples or 0, options.checkpoint, options.seed or 0, columns, say)
    write_lines(found.lines(), options.out)
    if options.html is not None:
        options.html.parent.mkdir(parents=True, exist_ok=True)
        places = found.places or [NOWHERE] * len(found.texts)
        asked = [""] * len(found.texts) if found.prompts is None else map(prompt_text, found.prompts)
        names = (f"{i}{f': {prompt}' * bool(prompt)}" for i, prompt in enumerate(asked, 1))
        scored = [
            scored_text(one, name, found.detector.name, place)
            for one, name, place in zip(found.scored, names, places, strict=True)
        ]
        title = f"{options.run.name}: scores of checkpoint {found.detector.name}"
        write_score_page(options.html, title, scored[:MOST_SHOWN], found.notes)
        if len(scored) > MOST_SHOWN:
            found.notes.append(f"{options.html} shows the first {MOST_SHOWN:,} of the {len(scored):,} texts")
    stream = sys.stderr if options.out is None else sys.stdout
    if found.figures:
        print(f"\n{score_table(table_of({'texts': found.figures}))}", file=stream)
    for note in found.notes:
        print(f"note: {note}", file=stream)
    for path in (options.out, options.html):
        if path is not None:
            print(f"saved: {path}", file=stream)
    return 0
