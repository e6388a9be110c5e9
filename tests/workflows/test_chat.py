"""The chat: what the model sees of what was said, and that neither Ctrl-C nor bad input ends it."""

import contextlib
import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tiny import train_tiny

from gptgan_jax.cli import main
from gptgan_jax.config.checking import config_from
from gptgan_jax.data.corpora import Corpus, Split
from gptgan_jax.data.tokenizers import WordTokenizer, fit_tokenizer
from gptgan_jax.errors import UserError
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.workflows import chat as chat_module
from gptgan_jax.workflows.chat import Conversation

WORDS = "hi ho bye you two cats run here now"


def conversation(longest: int, **keys: Any) -> Conversation:
    return Conversation(fit_tokenizer(WordTokenizer(), Corpus(Split([WORDS]), Split(["hi"]), None)), longest, **keys)


def test_what_was_said_goes_before_as_far_back_as_it_fits() -> None:
    talk = conversation(5)
    read = talk.tokenizer.decode
    assert read(talk.ask("hi you")) == "hi you"
    talk.reply("ho")
    assert read(talk.ask("bye you")) == "hi you ho bye you"
    talk.reply("cats")
    # One more would be seven tokens: the first two turns go, and the prompt begins with a user's.
    assert read(talk.ask("now")) == "bye you cats now"
    talk.reset()
    assert read(talk.ask("now")) == "now"


def test_of_a_turn_that_is_too_long_is_kept_what_was_kept_in_training() -> None:
    talk = conversation(3)
    assert talk.tokenizer.decode(talk.ask("two cats run here now")) == "run here now"
    talk = conversation(3, keep="start")
    assert talk.tokenizer.decode(talk.ask("two cats run here now")) == "two cats run"


def test_a_message_of_unknown_words_leaves_the_conversation_as_it_was() -> None:
    talk = conversation(9)
    talk.ask("hi")
    with pytest.raises(UserError, match="the tokenizer doesn't know 'zebra', 'x'"):
        talk.ask("zebra hi x zebra")
    assert [one.content for one in talk.said] == ["hi"]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({}, "learned text without prompts"),
        (
            {"label": "tense", "label_prompts": True},
            "answers labels, not prompts: gptgan sample --label, one of past, present",
        ),
        ({"infilling": {"share": 0.5}}, "fills in blanks, and answers no messages; use gptgan sample --fill"),
        ({"task": "answer"}, ""),
    ],
)
def test_who_answers_no_messages_is_refused(data: dict[str, Any], says: str) -> None:
    config = config_from({"name": "x", "data": data})
    run: Any = SimpleNamespace(config=config, conditional=config.conditional, classes=("past", "present"))
    with pytest.raises(UserError, match=says) if says else contextlib.nullcontext():
        chat_module.check_answers(run)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that answers prompts, of few steps."""
    root = tmp_path_factory.mktemp("chat")
    words = WORDS.split()
    rows = [
        {
            "ask": f"{words[i % 9]} {words[i // 9]}",
            "text": f"{words[(i + 1) % 9]} {words[(i + 4) % 9]} {i % 3 * 'now '}",
        }
        for i in range(81)
    ]
    (root / "turns.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return train_tiny(
        root,
        {
            "data.kind": "hf",
            "data.train": str(root / "turns.jsonl"),
            "data.prompt_column": "ask",
            "data.max_prompt_length": 8,
            "evaluation.task": "dialogue",
            "likelihood.steps": 30,
        },
    )


def talked(folder: Path, lines: str, monkeypatch: pytest.MonkeyPatch, capsys, *flags: str) -> tuple[list[str], str]:
    """Replies, one a line, and the news."""
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    capsys.readouterr()
    assert main(["chat", str(folder), *flags]) == 0
    captured = capsys.readouterr()
    return captured.out.splitlines(), captured.err


def sampled(folder: Path, prompt: str, capsys) -> str:
    capsys.readouterr()
    assert main(["sample", str(folder), "--temperature", "0", "--num", "1", "--prompt", prompt]) == 0
    return capsys.readouterr().out.splitlines()[0]


@pytest.mark.exhaustive
def test_a_greedy_reply_is_what_sample_writes_for_the_same_prompt(folder: Path, monkeypatch, capsys) -> None:
    prompts = ["hi ho", "cats", "run here now"]
    replies, _ = talked(folder, "\n/reset\n".join(prompts), monkeypatch, capsys, "--temperature", "0")
    assert replies == [sampled(folder, prompt, capsys) for prompt in prompts]
    assert any(replies)


@pytest.mark.thorough
def test_history_and_reset_change_what_is_answered(folder: Path, monkeypatch, capsys) -> None:
    replies, _ = talked(folder, "hi ho\ncats run\n", monkeypatch, capsys, "--temperature", "0")
    assert replies[1] == sampled(folder, f"hi ho {replies[0]} cats run", capsys)
    after, _ = talked(folder, "hi ho\n/reset\ncats run\n", monkeypatch, capsys, "--temperature", "0")
    assert after[1] == sampled(folder, "cats run", capsys)


def test_a_line_that_is_not_utf8_is_told_and_not_answered(folder: Path, monkeypatch, capsys) -> None:
    """Where no locale is set, as in most containers, Python keeps such bytes of the input as halves of characters."""
    line = b"caf\xe9".decode(errors="surrogateescape")
    replies, news = talked(folder, f"{line}\nhi ho\n", monkeypatch, capsys, "--temperature", "0")
    assert replies == talked(folder, "hi ho\n", monkeypatch, capsys, "--temperature", "0")[0]
    assert "this line is not UTF-8 (byte 0xe9)" in news


def test_equal_seeds_give_equal_replies_and_others_do_not(folder: Path, monkeypatch, capsys) -> None:
    lines = "hi\nho\nhi ho\n" * 3
    first, again, other = (talked(folder, lines, monkeypatch, capsys, "--seed", seed)[0] for seed in "003")
    assert first == again
    assert first != other


def test_bad_messages_and_commands_are_told_of_and_the_chat_goes_on(folder: Path, monkeypatch, capsys) -> None:
    replies, news = talked(folder, "zebra\n\n   \n/rest\n/reset\nhi\n/quit\nhi\n", monkeypatch, capsys)
    assert len(replies) == 1
    assert "doesn't know 'zebra'" in news
    assert "unknown command '/rest': /reset starts" in news
    assert "started a new conversation" in news


def test_ctrl_c_stops_a_reply_and_not_the_program(folder: Path, monkeypatch, capsys) -> None:
    seen: list[list[int]] = []

    class Endless:
        """Writes one word for ever; Ctrl-C is pressed after the third."""

        def __init__(self, *_: object) -> None:
            pass

        def __call__(self, key: object, prompt: list[int]):
            seen.append(prompt)
            for i in range(10_000):
                if i == 3:
                    os.kill(os.getpid(), signal.SIGINT)
                yield 5

    monkeypatch.setattr(chat_module, "TokenStream", Endless)
    before = signal.getsignal(signal.SIGINT)
    replies, _ = talked(folder, "hi\nho\n", monkeypatch, capsys)
    assert [len(reply.split()) for reply in replies] == [4, 4]
    # What was written before it was stopped has been said.
    assert len(seen[1]) == len(seen[0]) + 4 + 1
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_while_nothing_is_written_drops_the_line(folder: Path, monkeypatch, capsys) -> None:
    class Keyboard(io.StringIO):
        pressed = False

        def readline(self, *size: int) -> str:
            if not self.pressed:
                self.pressed = True
                raise KeyboardInterrupt
            return super().readline(*size)

    monkeypatch.setattr("sys.stdin", Keyboard("hi\n"))
    assert main(["chat", str(folder)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2  # the dropped line's end, and a reply


def test_a_models_text_steers_no_terminal_and_a_reply_is_one_line() -> None:
    out = io.StringIO()
    chat_module._show("a\x1b[2J\nb", out)
    assert out.getvalue() == r"a\x1b[2J\nb"
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    chat_module._show("a\x1b[2J\nb", terminal)
    assert terminal.getvalue() == "a\\x1b[2J\nb"


# A chat whose replies never end, in a process of its own whose controlling terminal is its standard input.
ENDLESS_CHAT = """
import fcntl, signal, sys, termios, time
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from gptgan_jax import cli
from gptgan_jax.workflows import chat

class Endless:
    def __init__(self, *_): pass
    def __call__(self, key, prompt):
        while True:
            yield 5
            time.sleep(0.01)

chat.TokenStream = Endless
if "ignored" in sys.argv:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
sys.exit(cli.main(["chat", sys.argv[1]]))
"""


class Terminal:
    """The other end of a pseudo-terminal: what a user sees and types."""

    def __init__(self, folder: Path, *more: str) -> None:
        self.side, its_own = pty.openpty()
        command = [sys.executable, "-c", ENDLESS_CHAT, str(folder), *more]
        streams: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), its_own)
        self.process = subprocess.Popen(command, start_new_session=True, cwd=Path(__file__).parents[2], **streams)
        os.close(its_own)

    def type(self, keys: str) -> None:
        os.write(self.side, keys.encode())

    def until(self, end: str, again: str = "") -> str:
        """What is shown up to and including `end`; keys `again` are typed anew where nothing comes of them."""
        shown = ""
        tries = 12
        while end not in shown:
            ready, _, _ = select.select([self.side], [], [], 10 if again else 120)
            if not ready and again and (tries := tries - 1):
                self.type(again)
                continue
            assert ready, f"{end!r} did not come after {shown!r}"
            try:
                shown += os.read(self.side, 1).decode("latin-1")
            except OSError:  # Linux: the other end is closed
                pytest.fail(f"ended after {shown!r}")
        return shown

    def ended(self) -> int:
        os.set_blocking(self.side, False)
        return self.process.wait(timeout=600)


@pytest.mark.cases(1)
@pytest.mark.parametrize("begun", [(), ("ignored",)], ids=["", "by a parent that ignores Ctrl-C"])
def test_on_a_real_terminal_replies_stream_ctrl_c_stops_one_and_ctrl_d_leaves(
    folder: Path, begun: tuple[str, ...]
) -> None:
    word = RunFolder(folder).read_tokenizer().decode([5])
    terminal = Terminal(folder, *begun)
    try:
        assert "/reset starts" in terminal.until("> ")
        for _ in range(2):  # the first one's end is not the program's
            terminal.type("hi\r")
            terminal.until(f"{word} {word} {word}")  # seen, though the reply has no end
            terminal.type("\x03")
            assert "/reset starts" not in terminal.until("> ")
        terminal.type("half a line")
        terminal.until("line")
        terminal.type("\x03")
        # Python's `input` overlooks a signal that comes while it takes in a key, until the next one.
        assert "/reset starts" in terminal.until("> ", again="\x03")
        terminal.type("/reset\r")
        assert "started a new conversation" in terminal.until("> ")
        terminal.type("\x04")
        assert terminal.ended() == 0
    finally:
        terminal.process.kill()
        terminal.process.wait()
        os.close(terminal.side)
