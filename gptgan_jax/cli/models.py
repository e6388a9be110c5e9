"""`gptgan export`: write a run's generator for other programs; `gptgan import`: convert a GGUF model to a Hugging Face
folder, for `init_from: hf:FOLDER`."""

import argparse
from pathlib import Path
from typing import Any

from gptgan_jax.cli.sample import CHECKPOINT_HELP
from gptgan_jax.errors import UserError
from gptgan_jax.system.terminal import check_local, configure_jax, say

_IMPORT_HELP = (
    "Quantised weights are dequantised to float32; others keep their type. A model that this project's Transformer "
    "does not support is refused."
)


def add_export(commands: Any, run_help: str) -> None:
    """Adds the command to a parser's."""
    export = commands.add_parser("export", help="write a run's generator for other programs", allow_abbrev=False)
    export.add_argument("run", type=Path, help=run_help)
    export.add_argument(
        "--to",
        choices=("hf", "stablehlo", "savedmodel"),
        required=True,
        help="hf: a Hugging Face folder; stablehlo: the sampler, by jax.export; savedmodel: the sampler for TensorFlow",
    )
    export.add_argument("--out", type=Path, help="a folder that does not exist yet (default: RUN/export/FORMAT)")
    export.add_argument("--checkpoint", default="best", help=CHECKPOINT_HELP)
    export.set_defaults(command=_export)


def _export(options: argparse.Namespace) -> int:
    check_local("--out", options.out)
    configure_jax()

    from gptgan_jax.export.folders import export_run
    from gptgan_jax.runs.folder import RunFolder

    print(f"exported: {export_run(RunFolder(options.run), options.to, options.out, options.checkpoint)}")
    return 0


def add_import(commands: Any) -> None:
    """Adds the command to a parser's."""
    command = commands.add_parser(
        "import", help="convert a GGUF file to a Hugging Face folder", description=_IMPORT_HELP, allow_abbrev=False
    )
    command.add_argument("model", help="gguf:FILE, a model in llama.cpp's format")
    command.add_argument("out", type=Path, help="a folder that does not exist yet")
    command.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        help="of all weights (default: the file's own, or float32 for quantised weights, so that none is rounded)",
    )
    command.set_defaults(command=_import)


def _import(options: argparse.Namespace) -> int:
    from gptgan_jax.pretrained.gguf_file import PREFIX
    from gptgan_jax.pretrained.gguf_import import import_gguf

    if not options.model.startswith(PREFIX):
        raise UserError(f"{options.model}: give the model to import as gguf:FILE")
    check_local("OUT", options.out)
    path = Path(options.model.removeprefix(PREFIX)).expanduser()
    for note in import_gguf(path, options.out, options.dtype):
        say(note)
    size = sum(file.stat().st_size for file in options.out.iterdir())
    print(f"imported: {options.out} ({size / 1e6:,.0f} MB); train with --init_from hf:{options.out}")
    return 0
