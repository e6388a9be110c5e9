"""`gptgan export`: a run's generator for other programs."""

import argparse
from pathlib import Path
from typing import Any

from gptgan_jax.cli.sample import CHECKPOINT_HELP
from gptgan_jax.system.terminal import configure_jax


def add_export(commands: Any, run_help: str) -> None:
    """Adds the command to a parser's."""
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


def _export(options: argparse.Namespace) -> int:
    configure_jax()

    from gptgan_jax.export.folders import export_run
    from gptgan_jax.runs.folder import RunFolder

    print(f"exported: {export_run(RunFolder(options.run), options.to, options.out, options.checkpoint)}")
    return 0
