"""`gptgan sample`: samples from a run's generator, or its responses to the prompts of a file; `gptgan chat`: a
conversation in the terminal."""

import argparse
import dataclasses
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptgan_jax.data.corpora import counted
from gptgan_jax.errors import UserError
from gptgan_jax.readers.cells import as_json
from gptgan_jax.readers.files import format_of
from gptgan_jax.system.terminal import (
    LARGEST_INT,
    check_new_file,
    check_utf8,
    configure_jax,
    number,
    say,
    write_lines,
)

if TYPE_CHECKING:
    from gptgan_jax.data.infilling import Filling
    from gptgan_jax.runs.folder import RunFolder
    from gptgan_jax.runs.trained import Writer

# The most texts in one call; they are held in memory.
MOST_TEXTS = 1_000_000
CHECKPOINT_HELP = (
    "best (default: by evaluation.choose_by, in the last phase that trained the generator), last, "
    "likelihood or adversarial (the best of that phase), or a step number"
)
SYSTEM_HELP = "of a chat model: the system turn, which says how to answer"


def add_sample(commands: Any, run_help: str) -> None:
    """Adds the command to a parser's."""
    sample = commands.add_parser("sample", help="sample texts from a run's generator", allow_abbrev=False)
    sample.add_argument("run", type=Path, help=run_help + "; or a model: hf:FOLDER, gguf:FILE or hub:NAME")
    sample.add_argument(
        "--num",
        type=number(int, 1, MOST_TEXTS),
        help="number of texts (default 10); with --prompts, number per prompt (default 1)",
    )
    add_drawing(sample)
    sample.add_argument(
        "--weights",
        choices=("float32", "bfloat16"),
        default="float32",
        help="type of the generator's weight matrices while it generates (default float32); bfloat16 takes half the "
        "memory and changes log-probabilities in the second or third digit",
    )
    sample.add_argument("--prompt", help="the text that each sample continues or answers (default: none)")
    sample.add_argument("--system", metavar="TEXT", help=SYSTEM_HELP + ", with --prompt")
    sample.add_argument(
        "--fill",
        action="store_true",
        help="for a run with data.infilling: print the prompt with its blanks filled in, or unchanged where the answer "
        'does not fit them; in JSON lines "filled", null where it does not fit',
    )
    sample.add_argument("--label", help="the class of the texts, for a run with data.label_prompts")
    sample.add_argument(
        "--seed", type=number(int, 0, LARGEST_INT), default=0, help="equal seeds give equal texts (default 0)"
    )
    sample.add_argument("--checkpoint", default="best", help=CHECKPOINT_HELP)
    sample.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="output file (default: print): .jsonl for JSON lines, .txt for one text per line",
    )
    sample.add_argument(
        "--resample",
        type=number(int, 2, MOST_TEXTS),
        metavar="N",
        help="resample each text from N candidates by the discriminator's scores; both networks are those at the end "
        "of the warm-up unless --checkpoint names another",
    )
    sample.add_argument(
        "--best-of",
        type=number(int, 2, MOST_TEXTS),
        metavar="N",
        help="generate N candidates for each text and keep the one that was drawn with the highest probability",
    )
    _add_responses(sample)
    sample.set_defaults(command=_sample)


def add_drawing(parser: argparse.ArgumentParser) -> None:
    """Adds the sampling flags."""
    parser.add_argument("--temperature", type=number(float, 0), default=1.0, help="0 is greedy (default 1.0)")
    parser.add_argument(
        "--top-k",
        type=number(int, 0, LARGEST_INT),
        default=0,
        help="sample from the k most likely tokens (default 0: off)",
    )
    parser.add_argument(
        "--top-p",
        type=number(float, 0.001, 1),
        default=1.0,
        help="sample from the smallest set of tokens with this total probability (default 1: off)",
    )


def _add_responses(parser: argparse.ArgumentParser) -> None:
    """Adds the flags for responses to the prompts of a file."""
    responses = parser.add_argument_group("responses to a file of prompts, such as training text for a student")
    responses.add_argument(
        "--prompts",
        type=Path,
        metavar="FILE",
        help=".jsonl, .csv, .tsv or .parquet with a column of prompts (texts or conversations), or one prompt per "
        "line; writes JSON lines, each a row of FILE with its response",
    )
    responses.add_argument("--prompt-column", help="column of the prompts (default: the run's data.prompt_column)")
    responses.add_argument(
        "--batch-size",
        type=number(int, 1, MOST_TEXTS),
        help="responses generated at once (default 100); another size gives different responses",
    )
    for flag, what in (("--max-prompt-length", "prompt (default 512)"), ("--max-length", "response (default 256)")):
        responses.add_argument(
            flag,
            type=number(int, 1, LARGEST_INT),
            help=f"for a pre-trained model: longest {what}, in tokens; a run has its own",
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
    from gptgan_jax.sampling.rollouts import best_of

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
    filling = _filling(run, options)
    prompt, length = read_prompt(run, _asked(run, options) or "", options.system)
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
    if options.best_of is not None:
        sampler = partial(best_of, run.generator, candidates=options.best_of)
    candidates = options.resample or options.best_of or 1
    writer = TextWriter(run.generator, run.tokenizer, length, sampler=sampler, candidates=candidates)
    drawing = Drawing(options.temperature, options.top_k, options.top_p)
    written = writer(params, options.seed, options.num or 10, drawing, [prompt.ids], News(say))
    # Decoded together with the prompt, as a token may continue a word of it.
    begin = [] if run.conditional else prompt.ids
    pairs = zip(written.tokens, written.mask, strict=True)
    texts = (run.tokenizer.decode([*begin, *tokens[mask].tolist()]) for tokens, mask in pairs)
    rows = options.out is not None and format_of(options.out) == "json"
    asked = {name: given for name in ("prompt", "label") if (given := getattr(options, name)) is not None}

    def line(text: str) -> str:
        filled = None if filling is None else filling.of(options.prompt, text)
        if rows:
            return as_json({**asked, "text": text} | ({} if filling is None else {"filled": filled}))
        return one_line(text if filling is None else filled or options.prompt)

    return _keep(map(line, texts), options.out, filling)


def _keep(lines: Iterator[str], out: Path | None, filling: "Filling | None" = None) -> int:
    """Prints lines or writes them to a file; returns 0."""
    count = write_lines(lines, out)
    if filling is not None and filling.unfit:
        say(
            f"note: {filling.unfit} of {counted(count, 'answer')} did not fit: more or fewer words than the prompt has "
            "blanks (characters, in text without spaces)"
        )
    if out is not None:
        print(f"saved: {out}, {counted(count, 'line')}")
    return 0


def _filling(run: "Writer", options: argparse.Namespace) -> "Filling | None":
    """What --fill asks for. Raises UserError if the run fills in no blanks, or a prompt that is given has none."""
    if not options.fill:
        return None
    from gptgan_jax.data.infilling import Filling

    infilling = run.config.infilling
    if infilling is None:
        raise UserError(f"--fill is for runs with data.infilling, and {options.run} has none; drop it")
    if options.prompts is None and infilling.blank not in (options.prompt or ""):
        raise UserError(f"--fill needs a prompt with blanks; give --prompt TEXT with {infilling.blank!r} in it")
    return Filling(infilling.blank)


def _resampled(folder: "RunFolder", run: "Writer", options: argparse.Namespace) -> tuple[Any, Callable[..., Any]]:
    """The parameters of both networks, and a sampler for `TextWriter` that takes them."""
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
    for name in ("prompt", "system"):
        check_utf8(f"--{name}", getattr(options, name))
    if options.weights != "float32" and options.resample is not None:
        raise UserError(f"--weights {options.weights} is for the generator, and --resample has two networks; drop one")
    if options.best_of is not None and options.resample is not None:
        raise UserError("--best-of chooses by likelihood, --resample by the discriminator; drop one")
    if options.prompts is None:
        if options.system is not None and not options.prompt:
            raise UserError("--system goes with --prompt; give that, or drop it")
        if options.prompt_column is not None:
            raise UserError("--prompt-column goes with --prompts FILE; give that, or drop it")
        if options.batch_size is not None:
            raise UserError("--batch-size goes with --prompts FILE; give that, or drop it")
        if options.out is not None and format_of(options.out) not in (None, "json"):
            raise UserError(
                f"--out {options.out}: texts are written as JSON lines or one per line; end it in .jsonl or .txt"
            )
        return
    for name in ("prompt", "system", "label", "resample"):
        if getattr(options, name) is not None:
            raise UserError(f"--prompts already gives the prompts; drop --{name}")
    if options.best_of is not None:
        raise UserError("--prompts keeps every response; drop --best-of")


def _respond(options: argparse.Namespace) -> int:
    """Responses to the prompts of a file, as JSON lines."""
    from gptgan_jax.generation.texts import Drawing
    from gptgan_jax.generation.weights import held_in
    from gptgan_jax.workflows.distillation import load_responder, read_prompts, responses

    responder = load_responder(
        str(options.run), options.checkpoint, options.max_prompt_length, options.max_length, options.batch_size or 100
    )
    responder = dataclasses.replace(responder, params=held_in(responder.params, options.weights))
    filling = _filling(responder.run, options)
    prompts = read_prompts(options.prompts, options.prompt_column or responder.prompt_column, options.fill)
    drawing = Drawing(options.temperature, options.top_k, options.top_p)
    lines = responses(responder, prompts, drawing, options.seed, options.num or 1, say, filling)
    return _keep(lines, options.out, filling)


def _asked(run: "Writer", options: argparse.Namespace) -> str | None:
    """What each text answers: the prompt, or the label."""
    if not run.config.label_prompts:
        if options.label is not None:
            raise UserError("--label is for runs with data.label_prompts, and this run has none; drop it")
        return options.prompt
    known = ", ".join(run.classes)
    if options.prompt is not None:
        raise UserError(f"this run answers labels, not prompts; drop --prompt and give --label, one of {known}")
    if options.label not in run.classes:
        given = "" if options.label is None else f" {options.label!r} is none of this run's labels;"
        raise UserError(f"--label:{given} give one of {known}")
    return options.label


_CHAT_HELP = (
    "Answers each line of the input, given as much of the conversation before it as fits into the longest prompt. "
    "/reset starts a new conversation, /quit or the end of input ends the program, Ctrl-C stops a reply."
)


def add_chat(commands: Any, run_help: str) -> None:
    """Adds the command to a parser's."""
    chat = commands.add_parser(
        "chat", help="chat with a run or model that answers prompts", description=_CHAT_HELP, allow_abbrev=False
    )
    chat.add_argument("run", type=Path, help=run_help + "; or a model: hf:FOLDER, gguf:FILE or hub:NAME")
    add_drawing(chat)
    chat.add_argument(
        "--seed", type=number(int, 0, LARGEST_INT), default=0, help="equal seeds give equal replies (default 0)"
    )
    chat.add_argument("--checkpoint", default="best", help=CHECKPOINT_HELP)
    chat.add_argument("--system", metavar="TEXT", help=SYSTEM_HELP)
    chat.set_defaults(command=_chat)


def _chat(options: argparse.Namespace) -> int:
    check_utf8("--system", options.system)
    configure_jax()

    from gptgan_jax.generation.texts import Drawing
    from gptgan_jax.runs.pretrained import load_generator
    from gptgan_jax.workflows.chat import chat, check_answers

    run, params, _ = load_generator(str(options.run), options.checkpoint, check=check_answers)
    drawing = Drawing(options.temperature, options.top_k, options.top_p)
    chat(run, params, drawing, options.seed, sys.stdin, sys.stdout, say, options.system)
    return 0
