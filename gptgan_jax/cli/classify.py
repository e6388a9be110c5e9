"""`gptgan classify`: a run's discriminator on the texts of a file."""

import argparse
import sys
from pathlib import Path
from typing import Any

from gptgan_jax.errors import UserError
from gptgan_jax.system.terminal import check_folder, configure_jax, say


def add_classify(commands: Any, run_help: str) -> None:
    """Adds the command to a parser's."""
    classify = commands.add_parser("classify", help="classify the texts of a file", allow_abbrev=False)
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
        help="best (default: fewest validation texts misclassified), last, warmup or adversarial, or a step number",
    )
    classify.set_defaults(command=_classify)


def _classify(options: argparse.Namespace) -> int:
    configure_jax()

    from gptgan_jax.evaluation.results import table_of
    from gptgan_jax.reports.classes import write_reliability
    from gptgan_jax.reports.tables import score_table
    from gptgan_jax.runs.folder import RunFolder
    from gptgan_jax.scoring.classifier import class_figures
    from gptgan_jax.system.atomic_files import write_whole
    from gptgan_jax.workflows.classify import classify_file

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
