"""`gptgan report`: the report of a run, or a comparison of several; `gptgan runs`: a list of runs."""

import argparse
from pathlib import Path
from typing import Any

from gptgan_jax.errors import UserError
from gptgan_jax.system.terminal import check_local


def add_report(commands: Any, run_help: str) -> None:
    """Adds the command to a parser's."""
    report = commands.add_parser("report", help="write report.html and report.md of one run, or compare several")
    report.add_argument("runs", type=Path, nargs="+", metavar="run", help=run_help)
    report.add_argument("--out", type=Path, help="folder for the comparison of several runs (default: report)")
    report.set_defaults(command=_report)


def add_runs(commands: Any) -> None:
    """Adds the command to a parser's."""
    runs = commands.add_parser("runs", help="list the runs of a folder: state, phase, step, best validation, age")
    runs.add_argument(
        "folder", type=Path, nargs="?", default=Path("runs"), help="the folder that holds them (default: runs)"
    )
    runs.set_defaults(command=_runs)


def _runs(options: argparse.Namespace) -> int:
    from gptgan_jax.workflows.listing import as_table, list_runs

    print(as_table(list_runs(options.folder)))
    return 0


def _report(options: argparse.Namespace) -> int:
    check_local("--out", options.out)
    from gptgan_jax.reports.run import load_reported_run, write_run_report
    from gptgan_jax.runs.folder import RunFolder

    if len(options.runs) > 1:
        from gptgan_jax.workflows.run import compare_runs

        print(f"report: {compare_runs(options.runs, options.out or Path('report'))}")
        return 0
    if options.out is not None:
        raise UserError("--out is for a comparison of several runs; the report of one run is written to its folder")
    print(f"report: {write_run_report(load_reported_run(RunFolder(options.runs[0])))}")
    return 0
