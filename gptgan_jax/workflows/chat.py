"""A conversation in the terminal: `gptgan chat RUN`.

Replies are shown as they are generated. Each message is preceded by as much of the conversation as fits the longest
prompt of the run. /reset forgets it, /quit and the end of input end the program; Ctrl-C stops a reply.
"""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TextIO

import jax

from gptgan_jax.data.config import PromptKeep
from gptgan_jax.data.prompts import encode_prompts
from gptgan_jax.data.tokenizers import AnyTokenizer
from gptgan_jax.errors import UserError
from gptgan_jax.generation.streaming import TokenStream, WholeCharacters
from gptgan_jax.generation.texts import Drawing
from gptgan_jax.runs.records import one_line
from gptgan_jax.runs.trained import Writer, system_turn
from gptgan_jax.system.interruptions import obeyed
from gptgan_jax.system.terminal import check_utf8
from gptgan_jax.tokenization.chat_templates import Message, plain_text
from gptgan_jax.types import Params

COMMANDS = "/reset starts a new conversation, /quit ends, Ctrl-C stops a reply"
_STREAM = 0xC4A7


@dataclass
class Conversation:
    """A conversation.

    Attributes:
        tokenizer: of the run.
        longest: the longest prompt in tokens.
        keep: which end of a turn is kept if it is too long by itself, as in training.
        system: the turn before all others, if any.
        said: all turns, oldest first.
    """

    tokenizer: AnyTokenizer
    longest: int
    keep: PromptKeep = "end"
    system: tuple[Message, ...] = ()
    said: list[Message] = field(default_factory=list)

    def ask(self, text: str) -> list[int]:
        """Adds a user's turn; returns the generator's prompt as token ids: this turn and those before it that fit.

        Raises:
            UserError: words that the tokenizer doesn't know, or turns that its chat template refuses; nothing is added.
        """
        if unknown := self.tokenizer.unknown_words(text):
            words = ", ".join(repr(word) for word in dict.fromkeys(unknown))
            raise UserError(f"the tokenizer doesn't know {words}; use words of the training text")
        said = [*self.said, Message("user", text)]
        if getattr(self.tokenizer, "chat_template", None) is None and self.tokenizer.unknown_words(plain_text(said)):
            said = said[-1:]  # it can't encode the separator of turns, and never saw more than one turn
        prompt = encode_prompts(self.tokenizer, [(*self.system, *said)], self.longest, self.keep)[0]
        self.said = said
        return prompt.ids

    def reply(self, text: str) -> None:
        """Adds the assistant's turn."""
        self.said.append(Message("assistant", text))

    def reset(self) -> None:
        """Forgets everything."""
        self.said.clear()


def check_answers(run: Writer) -> None:
    """Raises UserError for a run that was trained without prompts, or with some that are no messages."""
    if run.config.label_prompts:
        raise UserError(f"this run answers labels, not prompts: gptgan sample --label, one of {', '.join(run.classes)}")
    if not run.conditional:
        raise UserError("this run learned text without prompts; chat needs one whose text has prompts")
    if run.config.infilling is not None:
        raise UserError("this run fills in blanks, and answers no messages; use gptgan sample --fill --prompt TEXT")


def chat(
    run: Writer,
    params: Params,
    drawing: Drawing,
    seed: int,
    lines: TextIO,
    out: TextIO,
    say: Callable[[str], None],
    system: str | None = None,
) -> None:
    """Answers a user's lines until they end.

    Args:
        run: trained with prompts.
        params: its generator's.
        drawing: how replies are sampled.
        seed: equal seeds and lines give equal replies.
        lines: the user's lines; on a terminal, each is preceded by a prompt character.
        out: receives the replies.
        say: receives lines about the program itself, such as why a message can't be answered.
        system: the system message, for a chat template.

    Raises:
        UserError: a run without prompts, or one that can't use `system`.
    """
    check_answers(run)
    data = run.config.data
    stream = TokenStream(run.generator, params, drawing, data.max_prompt_length, data.max_length)
    turns = system_turn(run, system)
    conversation = Conversation(run.tokenizer, data.max_prompt_length, data.prompt_keep, turns)
    key = jax.random.fold_in(jax.random.key(seed), _STREAM)
    typed = lines.isatty()
    if typed:
        say(COMMANDS)
    turn = 0
    for line in _lines_of(lines, out, say):
        text = line.strip()
        if text == "/quit":
            return
        if text == "/reset":
            conversation.reset()
            say("started a new conversation")
        elif text.startswith("/"):
            say(f"unknown command {one_line(text)[:40]!r}: {COMMANDS}")
        elif text:
            try:
                check_utf8("this line", text)
                prompt = conversation.ask(text)
            except UserError as error:
                say(str(error))
                continue
            conversation.reply(_answer(stream(jax.random.fold_in(key, turn), prompt), run.tokenizer, out))
            turn += 1


def _answer(tokens: Iterator[int], tokenizer: AnyTokenizer, out: TextIO) -> str:
    """Shows a reply as it is generated, until its end or Ctrl-C; returns what was generated."""
    characters = WholeCharacters(tokenizer)
    with _interruptions() as stopped:
        for token in tokens:
            _show(characters.add(token), out)
            if stopped():
                break
        else:
            _show(characters.rest(), out)
    out.write("\n")
    out.flush()
    return characters.text


def _show(text: str, out: TextIO) -> None:
    """Shows text without control characters. On a terminal its line breaks stay; elsewhere a reply is one line."""
    shown = "\n".join(map(one_line, text.split("\n"))) if out.isatty() else one_line(text)
    out.write(shown)
    out.flush()


@contextmanager
def _interruptions() -> Iterator[Callable[[], bool]]:
    """In this context Ctrl-C interrupts nothing; yields a function that tells whether it was pressed."""
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed.is_set
        return

    def press(*_: object) -> None:
        pressed.set()
        obeyed()

    before = signal.signal(signal.SIGINT, press)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, before)


def _lines_of(lines: TextIO, out: TextIO, say: Callable[[str], None]) -> Iterator[str]:
    """The user's lines; Ctrl-C discards the line being typed."""
    typed = lines.isatty()
    if typed and lines is sys.stdin:
        with suppress(ImportError):
            import readline  # noqa: F401  # arrow keys and history for `input`
        # A parent that ignored Ctrl-C, such as a shell's background job, passes that on; but a terminal needs Ctrl-C.
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)
    while True:
        try:
            if typed and lines is sys.stdin:
                yield input("> ")
                continue
            if not (line := lines.readline()):
                return
            yield line
        except EOFError:
            out.write("\n")
            return
        except KeyboardInterrupt:
            obeyed()
            out.write("\n")
            say(COMMANDS)
        except UnicodeDecodeError as error:
            raise UserError(f"standard input is not UTF-8 (byte 0x{error.object[error.start]:02x})") from None
