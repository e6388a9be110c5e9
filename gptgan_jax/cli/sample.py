"""`gptgan sample`: texts of a run's generator, or its responses to the prompts of a file; `gptgan chat`: a conversation
in the terminal."""

import argparse
import dataclasses
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptgan_jax.data.corpora import counted
from gptgan_jax.errors import UserError
from gptgan_jax.readers.cells import as_json
from gptgan_jax.readers.files import format_of
from gptgan_jax.system.terminal import LARGEST_INT, check_new_file, configure_jax, number, say, write_lines

if TYPE_CHECKING:
    from gptgan_jax.runs.folder import RunFolder
    from gptgan_jax.runs.trained import Writer

# The most texts of one call; they are held in memory.
MOST_TEXTS = 1_000_000
CHECKPOINT_HELP = (
    "best (default: least validation loss in the last phase that trained the generator), last, "
    "likelihood or adversarial (that phase's best), or a step number"
)


def add_sample(commands: Any, run_help: str) -> None:
    """Adds the command to a parser's."""
    sample = commands.add_parser("sample", help="sample texts from a run's generator", allow_abbrev=False)
    sample.add_argument("run", type=Path, help=run_help + "; or hf:FOLDER, gguf:FILE or hub:NAME, a model")
    sample.add_argument(
        "--num",
        type=number(int, 1, MOST_TEXTS),
        help="how many texts (default 10); with --prompts for each prompt (default 1)",
    )
    add_drawing(sample)
    sample.add_argument(
        "--weights",
        choices=("float32", "bfloat16"),
        default="float32",
        help="how the generator's matrices are held while it writes (default float32): bfloat16 takes half the memory, "
        "and log-probabilities differ in the second or third digit",
    )
    sample.add_argument("--prompt", help="what each text begins with, or answers (default: nothing)")
    sample.add_argument("--label", help="the class that each text shall be of, in a run with data.label_prompts")
    sample.add_argument(
        "--seed", type=number(int, 0, LARGEST_INT), default=0, help="equal seeds give equal texts (default 0)"
    )
    sample.add_argument("--checkpoint", default="best", help=CHECKPOINT_HELP)
    sample.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="where to (default: print): JSON lines with a text each where FILE ends in .jsonl, else a text a line",
    )
    sample.add_argument(
        "--resample",
        type=number(int, 2, MOST_TEXTS),
        metavar="N",
        help="choose each text out of N by the discriminator; of the warmed-up pair unless --checkpoint names another",
    )
    _add_responses(sample)
    sample.set_defaults(command=_sample)


def add_drawing(parser: argparse.ArgumentParser) -> None:
    """The flags that say how texts are drawn."""
    parser.add_argument("--temperature", type=number(float, 0), default=1.0, help="0 is greedy (default 1.0)")
    parser.add_argument(
        "--top-k",
        type=number(int, 0, LARGEST_INT),
        default=0,
        help="draw from the k likeliest tokens (default 0: off)",
    )
    parser.add_argument(
        "--top-p",
        type=number(float, 0.001, 1),
        default=1.0,
        help="draw from the likeliest tokens that make up this probability (default 1: off)",
    )


def _add_responses(parser: argparse.ArgumentParser) -> None:
    """The flags of responses to the prompts of a file."""
    responses = parser.add_argument_group("responses to a file of prompts, for a student to learn from")
    responses.add_argument(
        "--prompts",
        type=Path,
        metavar="FILE",
        help=".jsonl, .csv, .tsv or .parquet with a column of prompts (texts or conversations), or a prompt a line; "
        "writes JSON lines, each a row of FILE with its response",
    )
    responses.add_argument("--prompt-column", help="column of the prompts (default: the run's data.prompt_column)")
    responses.add_argument(
        "--batch-size",
        type=number(int, 1, MOST_TEXTS),
        default=100,
        help="responses at once (default 100); another one draws others",
    )
    for flag, what in (("--max-prompt-length", "prompt (default 512)"), ("--max-length", "response (default 256)")):
        responses.add_argument(
            flag,
            type=number(int, 1, LARGEST_INT),
            help=f"of a Hugging Face model the longest {what}, in tokens; a run has its own",
        )


def _sample(options: argparse.Namespace) -> int:
    _check_sample(options)
    configure_jax()
    if options.prompts is not None:
        return _respond(options)

    from gptgan_jax.data.prompts import cut_note
    from gptgan_jax.generation.pace import News
    from gptgan_jax.generation.texts import Drawing, TextWriter
    from gptgan_jax.generation.weights import held_in
    from gptgan_jax.pretrained.hub import is_model
    from gptgan_jax.runs.folder import RunFolder
    from gptgan_jax.runs.pretrained import load_generator
    from gptgan_jax.runs.records import one_line
    from gptgan_jax.runs.trained import load_params, load_writer, read_prompt

    folder = RunFolder(options.run)
    model = is_model(str(options.run))
    if model and (options.resample is not None or options.label is not None):
        raise UserError(f"--resample and --label are for runs, and {options.run} is a model; drop them")
    longest = options.max_prompt_length, options.max_length
    loaded = None
    if model or longest != (None, None):
        loaded = load_generator(str(options.run), options.checkpoint, *longest, bool(options.prompt))
    run = load_writer(folder) if loaded is None else loaded.run
    if options.resample is not None and run.conditional:
        raise UserError("--resample is for runs without prompts; drop it")
    prompt, length = read_prompt(run, _asked(run, options) or "")
    if prompt.cut:
        say(f"note: {cut_note(1, run.config.data.max_prompt_length, run.config.data.prompt_keep)}")
    if options.resample is not None and prompt.ids:
        raise UserError("--resample chooses among whole texts; drop --prompt")
    params: Any
    sampler: Callable[..., Any] | None = None
    if loaded is not None:
        params = loaded.params
    elif options.resample is None:
        params, _ = load_params(folder, run, options.checkpoint)
    else:
        params, sampler = _resampled(folder, run, options)
    if sampler is None:
        params = held_in(params, options.weights)
    writer = TextWriter(run.generator, run.tokenizer, length, sampler=sampler, candidates=options.resample or 1)
    drawing = Drawing(options.temperature, options.top_k, options.top_p)
    written = writer(params, options.seed, options.num or 10, drawing, [prompt.ids], News(say))
    # Decoded together with what they begin with, for a token may go on with a word of the prompt.
    begin = [] if run.conditional else prompt.ids
    pairs = zip(written.tokens, written.mask, strict=True)
    texts = (run.tokenizer.decode([*begin, *tokens[mask].tolist()]) for tokens, mask in pairs)
    rows = options.out is not None and format_of(options.out) == "json"
    asked = {name: given for name in ("prompt", "label") if (given := getattr(options, name)) is not None}
    return _keep((as_json({**asked, "text": text}) if rows else one_line(text) for text in texts), options.out)


def _keep(lines: Iterator[str], out: Path | None) -> int:
    """Prints lines or writes them into a file; 0."""
    count = write_lines(lines, out)
    if out is not None:
        print(f"kept: {out}, {counted(count, 'line')}")
    return 0


def _resampled(folder: "RunFolder", run: "Writer", options: argparse.Namespace) -> tuple[Any, Callable[..., Any]]:
    """Both players' parameters, and a sampler for `TextWriter` that takes them."""
    from gptgan_jax.checkpoints.manager import Checkpoints
    from gptgan_jax.config import LIKELIHOOD
    from gptgan_jax.scoring.residual import resampler, restore_networks

    if not run.config.warmup.steps:
        raise UserError(
            "--resample needs a run with a warm-up (warmup.steps), whose discriminator scores the candidates"
        )
    with Checkpoints(folder.checkpoints, read_only=True) as checkpoints:
        saved = checkpoints.choose("warmup" if options.checkpoint == "best" else options.checkpoint)
        if saved.phase in LIKELIHOOD:
            raise UserError(
                f"--resample: the discriminator of checkpoint {saved.phase}/{saved.step} has learned nothing yet; "
                "drop --checkpoint"
            )
        networks = restore_networks(checkpoints, saved, run)
    return networks.both, resampler(networks, options.resample)


def _check_sample(options: argparse.Namespace) -> None:
    """Raises UserError for flags of `sample` that don't go together."""
    check_new_file("--out", options.out, options.prompts)
    if options.weights != "float32" and options.resample is not None:
        raise UserError(f"--weights {options.weights} is for the generator, and --resample has two networks; drop one")
    if options.prompts is None:
        if options.prompt_column is not None:
            raise UserError("--prompt-column goes with --prompts FILE; give that, or drop it")
        if options.out is not None and format_of(options.out) not in (None, "json"):
            raise UserError(
                f"--out {options.out}: texts are written as JSON lines or a text a line; end it in .jsonl or .txt"
            )
        return
    for name in ("prompt", "label", "resample"):
        if getattr(options, name) is not None:
            raise UserError(f"--prompts has what each text shall answer; drop --{name}")


def _respond(options: argparse.Namespace) -> int:
    """Responses to the prompts of a file, as JSON lines."""
    from gptgan_jax.generation.texts import Drawing
    from gptgan_jax.generation.weights import held_in
    from gptgan_jax.workflows.distillation import load_responder, read_prompts, responses

    responder = load_responder(
        str(options.run), options.checkpoint, options.max_prompt_length, options.max_length, options.batch_size
    )
    responder = dataclasses.replace(responder, params=held_in(responder.params, options.weights))
    prompts = read_prompts(options.prompts, options.prompt_column or responder.prompt_column)
    drawing = Drawing(options.temperature, options.top_k, options.top_p)
    lines = responses(responder, prompts, drawing, options.seed, options.num or 1, say)
    return _keep(lines, options.out)


def _asked(run: "Writer", options: argparse.Namespace) -> str | None:
    """What each text shall answer: the prompt, or the label."""
    if not run.config.label_prompts:
        if options.label is not None:
            raise UserError("--label is for runs with data.label_prompts, and this one learned none; drop it")
        return options.prompt
    known = ", ".join(run.classes)
    if options.prompt is not None:
        raise UserError(f"this run answers labels, not prompts; drop --prompt and give --label, one of {known}")
    if options.label not in run.classes:
        given = "" if options.label is None else f" {options.label!r} is none of this run's labels;"
        raise UserError(f"--label:{given} give one of {known}")
    return options.label


_CHAT_HELP = (
    "Answers each line of the input, with what was said before it as far back as the longest prompt reaches. "
    "/reset forgets it, /quit or the end of input ends, Ctrl-C stops a reply."
)


def add_chat(commands: Any, run_help: str) -> None:
    """Adds the command to a parser's."""
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


def _chat(options: argparse.Namespace) -> int:
    configure_jax()

    from gptgan_jax.generation.texts import Drawing
    from gptgan_jax.runs.pretrained import load_generator
    from gptgan_jax.workflows.chat import chat, check_answers

    run, params, _ = load_generator(str(options.run), options.checkpoint, check=check_answers)
    drawing = Drawing(options.temperature, options.top_k, options.top_p)
    chat(run, params, drawing, options.seed, sys.stdin, sys.stdout, say)
    return 0
