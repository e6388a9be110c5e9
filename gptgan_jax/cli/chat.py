"""`gptgan chat`: a conversation in the terminal."""

import argparse
import sys
from pathlib import Path
from typing import Any

from gptgan_jax.cli.sample import CHECKPOINT_HELP, add_drawing
from gptgan_jax.system.terminal import LARGEST_INT, configure_jax, number, say

_HELP = (
    "Answers each line of the input, with what was said before it as far back as the longest prompt reaches. "
    "/reset forgets it, /quit or the end of input ends, Ctrl-C stops a reply."
)


def add_chat(commands: Any, run_help: str) -> None:
    """Adds the command to a parser's."""
    chat = commands.add_parser(
        "chat", help="talk to a run that learned to answer", description=_HELP, allow_abbrev=False
    )
    chat.add_argument("run", type=Path, help=run_help + "; or hf:FOLDER, gguf:FILE or hub:NAME, a model")
    add_drawing(chat)
    chat.add_argument(
        "--seed", type=number(int, 0, LARGEST_INT), default=0, help="equal seeds give equal replies (default 0)"
    )
    chat.add_argument("--checkpoint", default="best", help=CHECKPOINT_HELP)
    chat.set_defaults(command=_chat)


def _chat(options: argparse.Namespace) -> int:
    configure_jax()

    from gptgan_jax.generation.texts import Drawing
    from gptgan_jax.runs.pretrained import load_generator
    from gptgan_jax.workflows.chat import chat, check_answers

    run, params, _ = load_generator(str(options.run), options.checkpoint, check=check_answers)
    drawing = Drawing(options.temperature, options.top_k, options.top_p)
    chat(run, params, drawing, options.seed, sys.stdin, sys.stdout, say)
    return 0
