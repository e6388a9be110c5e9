"""Conversations of data sets: what is asked, what is learned, and the line that says what is wrong with one."""

import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from gptgan_jax.config.checking import config_from
from gptgan_jax.data.config import HfData
from gptgan_jax.data.corpora import load_corpus
from gptgan_jax.errors import UserError
from gptgan_jax.readers.conversations import as_prompt, prompt_value, turns_from
from gptgan_jax.readers.documents import Columns, Table, read_prompt_rows, read_table
from gptgan_jax.readers.row_sources import open_rows
from gptgan_jax.tokenization.chat_templates import Message

MESSAGES = Columns("messages", "messages")


def turn(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


def user(text: str) -> Message:
    return Message("user", text)


def assistant(text: str) -> Message:
    return Message("assistant", text)


ASKED = [turn("user", "q"), turn("assistant", "a")]
LONG = [turn("system", "s"), turn("user", "q1"), turn("assistant", "a1"), turn("user", "q2"), turn("assistant", "a2")]
BEFORE = (Message("system", "s"), user("q1"), assistant("a1"), user("q2"))


def write(path: Path, *rows: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def read(folder: Path, columns: Columns, *rows: dict[str, Any]) -> Table:
    file = write(folder / "rows.jsonl", *rows)
    return read_table(open_rows("data.train", "json", None, file, "train", False), columns)


def refused(folder: Path, columns: Columns, *rows: dict[str, Any]) -> str:
    with pytest.raises(UserError) as error:
        read(folder, columns, *rows)
    message = str(error.value)
    assert "\n" not in message
    assert len(message) < 300
    return message


def test_the_assistants_last_turn_answers_the_turns_before_it(tmp_path: Path) -> None:
    found = read(tmp_path, MESSAGES, {"messages": ASKED}, {"messages": LONG})
    assert found.texts == ["a", "a2"]
    assert found.prompts == ["q", BEFORE]
    assert found.cut == 0


def test_turns_after_it_are_left_out_and_counted(tmp_path: Path) -> None:
    found = read(tmp_path, MESSAGES, {"messages": [*LONG, turn("user", "bye")]}, {"messages": ASKED})
    assert (found.texts, found.prompts, found.cut) == (["a2", "a"], [BEFORE, "q"], 1)
    file = str(tmp_path / "rows.jsonl")
    corpus = load_corpus(HfData(train=file, valid=file, text_column="messages"))
    assert any("data.train: 1 conversation read without the turns that follow" in note for note in corpus.notes)


THREE = [*LONG, turn("user", "q3"), turn("assistant", "a3")]
BOTH = (*BEFORE, assistant("a2"), user("q3"))


def every(text: str = "messages", prompt: str = "messages", **names: Any) -> Columns:
    return Columns(text, prompt, every_turn=True, **names)


def test_every_turn_of_the_assistants_is_a_text_after_all_that_was_said_before(tmp_path: Path) -> None:
    found = read(tmp_path, every(label="label"), {"messages": THREE, "label": "x"}, {"messages": ASKED, "label": "y"})
    assert found.texts == ["a1", "a2", "a3", "a"]
    assert found.prompts == [BEFORE[:2], BEFORE, BOTH, "q"]
    assert found.labels == ["x", "x", "x", "y"]
    assert found.conversations == [turns_from(THREE)] * 3 + [turns_from(ASKED)]
    assert (found.unlearned, found.cut) == (0, 0)


@pytest.mark.parametrize(
    ("messages", "texts", "unlearned"),
    [
        ([*LONG[:2], LONG[2] | {"weight": 0}, *LONG[3:]], ["a2"], 1),
        ([*LONG[:-1], LONG[-1] | {"train": False}], ["a1"], 1),
        ([turn("assistant", "hi"), *ASKED], ["a"], 1),  # it greets, which answers nothing
        ([*ASKED, turn("assistant", "b")], ["a"], 1),
        ([*ASKED, turn("user", "q2"), turn("assistant", " ")], ["a"], 0),  # blank, which is counted as such
    ],
)
def test_turns_without_weight_and_those_that_answer_nobody_are_left_out_and_counted(
    messages: list[dict[str, Any]], texts: list[str], unlearned: int, tmp_path: Path
) -> None:
    found = read(tmp_path, every(), {"messages": messages})
    assert (found.texts, found.unlearned) == (texts, unlearned)


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        ({"prompt": LONG[:2], "completion": THREE[2:]}, every("completion", "prompt")),
        ({"prompt": LONG[:2], "messages": THREE}, every("messages", "prompt")),
        ({"prompt": "q1", "system": "s", "completion": THREE[2:]}, every("completion", "prompt")),
    ],
)
def test_every_turn_after_a_prompt_of_its_own_column_is_a_text(
    row: dict[str, Any], columns: Columns, tmp_path: Path
) -> None:
    found = read(tmp_path, columns, row)
    assert (found.texts, found.prompts) == (["a1", "a2", "a3"], [BEFORE[:2], BEFORE, BOTH])


def test_the_assistants_turns_in_a_prompt_are_no_text(tmp_path: Path) -> None:
    rows = {"prompt": LONG[:-1], "completion": THREE[4:]}, {"prompt": LONG[:-1], "completion": THREE}
    found = read(tmp_path, every("completion", "prompt"), *rows)
    assert (found.texts, found.prompts) == (["a2", "a3"] * 2, [BEFORE, BOTH] * 2)


def test_what_is_not_learned_may_have_reasoning_and_no_weight(tmp_path: Path) -> None:
    thought = turn("assistant", "a1") | {"reasoning": "hm", "weight": 0}
    rows = [
        {"prompt": [*LONG[:2], thought, LONG[3]], "messages": [*LONG[:2], thought, LONG[3], LONG[4]]},
        {"prompt": LONG[:1] + LONG[3:4], "messages": [turn("assistant", "hi") | {"thinking": "hm"}, LONG[3], LONG[4]]},
    ]
    assert read(tmp_path, every("messages", "prompt"), rows[0]).texts == ["a2"]
    assert read(tmp_path, every(), rows[1]).texts == ["a2"]
    assert read(tmp_path, MESSAGES, rows[1]).unlearned == 0  # a greeting, which is never learned


def test_earlier_turns_that_are_not_learned_are_told(tmp_path: Path) -> None:
    file = write(tmp_path / "rows.jsonl", *[{"messages": [turn("user", str(i)), *THREE[2:]]} for i in range(60)])

    def notes(**keys: Any) -> list[str]:
        return [
            note for note in load_corpus(HfData(train=file, text_column="messages", **keys)).notes if "turn" in note
        ]

    assert notes() == [
        "data.train: 120 turns of the assistant's come before the last: they are only read in prompts; "
        "data.assistant_turns all learns them too"
    ]
    assert notes(assistant_turns="all") == []


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        ({"prompt": LONG[:-1], "completion": LONG[-1:]}, Columns("completion", "prompt")),  # TRL
        ({"prompt": LONG[:2], "completion": LONG[2:]}, Columns("completion", "prompt")),
        ({"content": LONG[:-1], "teacher_response": "a2"}, Columns("teacher_response", "content")),  # GAD
        ({"prompt": LONG[:-1], "messages": LONG}, Columns("messages", "prompt")),
        ({"content": LONG, "teacher_response": "a2"}, Columns("teacher_response", "content")),
    ],
)
def test_prompts_and_texts_in_columns_of_their_own_are_one_conversation(
    row: dict[str, Any], columns: Columns, tmp_path: Path
) -> None:
    found = read(tmp_path, columns, row)
    assert (found.texts, found.prompts) == (["a2"], [BEFORE])


def test_a_prompt_before_its_whole_conversation_is_read_once(tmp_path: Path) -> None:
    for messages in (ASKED, [turn("system", "s"), *ASKED]):
        found = read(tmp_path, Columns("messages", "prompt"), {"prompt": "q", "messages": messages})
        prompt = "q" if messages == ASKED else (Message("system", "s"), user("q"))
        assert (found.texts, found.prompts) == (["a"], [prompt])
    found = read(tmp_path, Columns("completion", "prompt"), {"prompt": "q", "completion": "a"})
    assert (found.texts, found.prompts) == (["a"], ["q"])


@pytest.mark.parametrize(
    "value",
    [
        [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}],
        [{"from": "User", "value": "q"}, {"from": "model", "value": "a"}],
        [turn("user", [{"type": "text", "text": "q"}]), turn("assistant", [{"type": "text", "text": ""}, "a"])],
        [turn("user", "q") | {"name": "x", "tool_calls": None}, turn("assistant", "a") | {"tool_calls": []}],
        {"role": ["user", "assistant"], "content": ["q", "a"]},
    ],
)
def test_messages_are_written_in_several_ways(value: Any, tmp_path: Path) -> None:
    found = read(tmp_path, MESSAGES, {"messages": value})
    assert (found.texts, found.prompts) == (["a"], ["q"])


def test_developers_speak_as_the_system_and_numbers_are_texts() -> None:
    assert turns_from([turn("developer", "s")]) == (Message("system", "s"),)
    assert turns_from([turn("user", 7)]) == (user("7"),)


def test_a_parquet_file_holds_conversations_too(tmp_path: Path) -> None:
    rows = {"content": [ASKED[:1], LONG[:-1]], "teacher_response": ["a", "a2"]}
    pyarrow.parquet.write_table(pyarrow.table(rows), tmp_path / "rows.parquet")
    rows = open_rows("data.train", "json", None, str(tmp_path / "rows.parquet"), "train", False)
    found = read_table(rows, Columns("teacher_response", "content"))
    assert (found.texts, found.prompts) == (["a", "a2"], ["q", BEFORE])


def test_the_right_answer_may_be_a_turn(tmp_path: Path) -> None:
    row = {"prompt": ASKED[:1], "response": "b", "answer": ASKED[1:]}
    assert read(tmp_path, Columns("response", "prompt", answer="answer"), row).answers == ["a"]


SHARED = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
SYSTEM = (Message("system", "s"), user("q"))


@pytest.mark.parametrize("column", ["system", "system_prompt"])
@pytest.mark.parametrize("value", ["s", [{"type": "text", "text": "s"}]])
def test_a_column_beside_a_conversation_is_its_system_turn(column: str, value: Any, tmp_path: Path) -> None:
    rows = [{"conversations": SHARED, column: one} for one in (value, "", None, " ", [])] + [{"conversations": SHARED}]
    found = read(tmp_path, Columns("conversations", "conversations"), *rows)
    assert found.prompts == [SYSTEM, *["q"] * 5]
    assert found.texts == ["a"] * 6
    apart = {"prompt": SHARED[:1], column: value}
    for completion in ("a", SHARED[1:], SHARED):
        found = read(tmp_path, Columns("completion", "prompt"), apart | {"completion": completion})
        assert (found.texts, found.prompts) == (["a"], [SYSTEM])
    file = write(tmp_path / "prompts.jsonl", apart)
    assert read_prompt_rows(open_rows("", "json", None, file, "", False), "prompt")[1] == [SYSTEM]


def test_a_system_turn_of_its_own_comes_before_the_column(tmp_path: Path) -> None:
    found = read(tmp_path, MESSAGES, {"messages": [turn("system", "s"), *ASKED], "system": "another"})
    assert found.prompts == [SYSTEM]
    same = {"messages": ASKED, "system": "s", "system_prompt": "s"}
    assert read(tmp_path, MESSAGES, same).prompts == [SYSTEM]
    message = refused(tmp_path, MESSAGES, same | {"system": "another"})
    assert "columns system and system_prompt beside it hold two system turns" in message


def test_a_column_called_system_with_a_meaning_of_its_own_is_no_turn(tmp_path: Path) -> None:
    row = {"messages": ASKED, "system": "s", "prompt": "q", "completion": "a"}
    assert read(tmp_path, Columns("messages", "messages", label="system"), row).prompts == ["q"]
    assert read(tmp_path, Columns("completion", "prompt"), row).prompts == ["q"]  # plain texts are no conversation


def test_the_system_column_of_a_parquet_file_is_read_too(tmp_path: Path) -> None:
    rows = {"conversations": [SHARED, SHARED], "system": ["s", None], "other": [1, 2]}
    pyarrow.parquet.write_table(pyarrow.table(rows), tmp_path / "rows.parquet")
    for streaming in (False, True):
        found = open_rows("data.train", "json", None, str(tmp_path / "rows.parquet"), "train", streaming)
        assert read_table(found, Columns("conversations", "conversations")).prompts == [SYSTEM, "q"]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"messages": ASKED, "system": True}, "column system beside it holds true, which is no system turn's text"),
        ({"messages": ASKED, "system": 7}, "column system beside it holds 7, which is no system turn's text"),
        ({"messages": ASKED, "tools": [{"name": "f"}]}, "column tools beside it names tools"),
        ({"messages": ASKED, "tools": '[{"name": "f"}]'}, "column tools beside it names tools"),
        ({"messages": ASKED, "functions": [{"name": "f"}]}, "column functions beside it names tools"),
        ({"messages": ASKED, "images": ["a.png"]}, "column images beside it holds pictures, which no model here sees"),
        ({"messages": ASKED, "audio": {"path": "a.wav"}}, "column audio beside it holds sound"),
        ({"messages": ASKED, "videos": "a.mp4"}, "column videos beside it holds films"),
        ({"messages": ASKED, "chat_template_kwargs": {"enable_thinking": False}}, "sets options of its template"),
        ({"messages": [turn("system", "s") | {"tools": '["f"]'}, *ASKED]}, "message 1 names tools"),
        ({"messages": [ASKED[0], ASKED[1] | {"weight": 0}]}, "message 2, the assistant's last, has weight 0"),
        ({"messages": [ASKED[0], ASKED[1] | {"train": False}]}, "message 2, the assistant's last, has train false"),
        ({"messages": [ASKED[0], ASKED[1] | {"reasoning_content": "r"}]}, "message 2 has reasoning_content beside"),
        ({"messages": {"role": ["user", "assistant"], "content": ["q", "a"], "weight": [1, 0]}}, "has weight 0"),
    ],
)
def test_what_would_change_the_text_and_is_not_read_is_refused(row: Any, says: str, tmp_path: Path) -> None:
    message = refused(tmp_path, MESSAGES, {"messages": ASKED}, row)
    assert message.startswith("data.train, row 2: column messages holds a conversation that can't be read: ")
    assert says in message


def test_what_says_nothing_or_is_of_earlier_turns_is_passed_over(tmp_path: Path) -> None:
    earlier = [LONG[0], LONG[1], LONG[2] | {"weight": 0, "reasoning_content": "r"}, LONG[3], LONG[4] | {"weight": 1}]
    empty = {"tools": "[]", "functions": None, "system": "", "images": [], "chat_template_kwargs": {}}
    found = read(tmp_path, MESSAGES, {"messages": earlier, **empty}, {"messages": ASKED, "tools": []})
    assert (found.texts, found.prompts) == (["a2", "a"], [BEFORE, "q"])


def test_prompts_of_a_file_are_its_conversations_up_to_the_users_last_turn(tmp_path: Path) -> None:
    file = write(tmp_path / "rows.jsonl", *({"messages": messages} for messages in (ASKED, LONG, LONG[:-1])))
    rows, prompts, _ = read_prompt_rows(open_rows("", "json", None, file, "", False), "messages")
    assert prompts == ["q", BEFORE, BEFORE]
    assert rows[0] == {"messages": ASKED}


def test_a_prompt_is_read_back_as_it_was_written() -> None:
    for prompt in ("q", BEFORE, (Message("system", "s"), user("q"))):
        value = prompt_value(prompt)
        assert (value if isinstance(value, str) else as_prompt(turns_from(value))) == prompt
    assert prompt_value("q") == "q"


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (ASKED[:1], "no turn of the assistant's, which is the text to learn"),
        (ASKED[1:], "no user's turn before the assistant's last"),
        ([*ASKED, turn("assistant", "b")], "no user's turn before the assistant's last"),
        (
            [turn("user", "q"), turn("tool", "x" * 500)],
            'message 2 is of the role "tool", which is none of system, user',
        ),
        ([turn("user", "q"), turn("assistant", None)], "message 2 holds null, which is no text"),
        ([turn("user", "q"), turn("assistant", "") | {"tool_calls": [{"a": 1}]}], "message 2 calls a tool"),
        ([turn("user", [{"type": "image", "url": "x" * 500}])], "message 1 has a part that is no text"),
        ([{"speaker": "a", "text": "x"}], "message 1 has speaker, text; it should have role and content"),
        ("a plain text", 'column messages holds "a plain text", which is no list of messages'),
        ([], "column messages holds [], which is no list of messages"),
        (["x" * 500], "which is no list of messages"),
    ],
)
def test_a_bad_conversation_is_refused_with_its_row_and_cut(value: Any, says: str, tmp_path: Path) -> None:
    message = refused(tmp_path, MESSAGES, {"messages": ASKED}, {"messages": value})
    assert message.startswith("data.train, row 2: column messages ")
    assert says in message
    assert "x" * 81 not in message
    assert "another name" in message or "mend it, or leave the row out" in message


def test_a_conversation_in_a_column_of_texts_is_refused_with_what_to_set(tmp_path: Path) -> None:
    message = refused(tmp_path, Columns("chat"), {"chat": ASKED})
    assert (
        message
        == "data.train, row 1: column chat holds a conversation; set data.prompt_column to chat too, for its prompts"
    )
    unlearned = [ASKED[0], ASKED[1] | {"weight": 0}]
    for number, messages in ((2, unlearned), (3, [turn("assistant", "hi"), *unlearned])):
        message = refused(tmp_path, every(), {"messages": messages})
        assert f"message {number}, as all turns that could be learned, has weight 0: not to learn" in message
    thought = {"messages": [*LONG[:2], LONG[2] | {"reasoning": "hm"}, *LONG[3:]]}
    assert "message 3 has reasoning beside its content" in refused(tmp_path, every(), thought)
    greeted = {"messages": [turn("assistant", "hi")]}
    assert "no user's turn before the assistant's last" in refused(tmp_path, every(), greeted)
    assert "no turn of a user's" in refused(tmp_path, Columns("a", "p"), {"a": "x", "p": ASKED[1:]})
    other = {"prompt": "z", "messages": ASKED}
    assert "begins with another turn than the prompt's" in refused(tmp_path, Columns("messages", "prompt"), other)


def test_a_config_of_conversations_has_prompts_whatever_its_column_is_called() -> None:
    def conditional(**data: Any) -> bool:
        return config_from({"data": {"kind": "hf", **data}}).conditional

    assert conditional(text_column="messages")
    assert conditional(text_column="conversations")
    assert conditional(text_column="chat", prompt_column="chat")
    assert not conditional(text_column="chat")
    with pytest.raises(UserError, match="drop one of them"):
        conditional(text_column="messages", label_column="label", label_prompts=True)


@pytest.mark.parametrize("streaming", [False, True])
def test_whether_there_is_sound_is_asked_without_a_decoder(tmp_path: Path, streaming: bool) -> None:
    message = {"role": datasets.Value("string"), "content": datasets.Value("string")}
    features = datasets.Features({"messages": datasets.List(message), "audios": datasets.List(datasets.Audio())})
    some = [{"bytes": b"no sound that can be decoded", "path": "a.wav"}]
    for number, sound in enumerate(([], some)):
        path = tmp_path / f"{number}.parquet"
        rows = pyarrow.table({"messages": [ASKED], "audios": [sound]}, schema=features.arrow_schema)
        pyarrow.parquet.write_table(rows, path)
        found = open_rows("data.train", "json", None, str(path), "train", streaming)
        if sound:
            with pytest.raises(UserError, match="column audios beside it holds sound"):
                read_table(found, MESSAGES)
        else:
            assert read_table(found, MESSAGES).prompts == ["q"]
