"""A tokenizer that its text is not made for is refused, or said to be in alarms that stand above all figures."""

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from tiny import tiny_config, tiny_experiment, write_config

from gptgan_jax.cli import main
from gptgan_jax.data.holding_out import ALARM, UNSUITED
from gptgan_jax.errors import UserError
from gptgan_jax.runs.experiment import load_experiment


def drawn(letters: str, count: int = 300, seed: int = 0, shortest: int = 8, longest: int = 12) -> list[str]:
    r = random.Random(seed)
    return ["".join(r.choices(letters, k=r.randint(shortest, longest))) for _ in range(count)]


def sentences(words: list[str], count: int = 200, seed: int = 0) -> list[str]:
    r = random.Random(seed)
    return [" ".join(r.choices(words, k=r.randint(3, 6))) for _ in range(count)]


ENGLISH = ["the", "a", "old", "new", "cat", "dog", "man", "river", "house", "is", "was", "near", "on", "sleeps", "runs"]
RUSSIAN = ["старый", "новый", "дом", "река", "кот", "пёс", "стоит", "спит", "у", "на", "и", "не"]
HAN = "山水云月风花雪鸟江河松竹梅柳灯舟雨星霜桥照映拂送归落生过渡望听临随掩隐"


def written(path: Path, texts: list[str]) -> str:
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return str(path)


def alarms_of(folder: Path, **keys: Any) -> list[str]:
    keys = {"generator__max_positions": 80, **keys}
    experiment, _ = tiny_experiment(folder, {name.replace("__", "."): value for name, value in keys.items()})
    alarms = [note for note in experiment.notes if note.startswith(UNSUITED)]
    assert list(experiment.notes[: len(alarms)]) == alarms
    return alarms


WITHOUT_SPACES = {
    "Chinese": drawn(HAN),
    "Chinese clauses": [f"{a} {b}" for a, b in zip(drawn(HAN), drawn(HAN, seed=1), strict=True)],
    "Chinese with English words": [f"{a}GAN {b}" for a, b in zip(drawn(HAN), drawn(HAN, seed=1), strict=True)],
    "Japanese": drawn("あいうえおかきくけこさしすせそ日月火水木金土"),
    "Thai": [
        f"{a} {b}"
        for a, b in zip(drawn("กขคงจชดตถทนบปผพมยรล", longest=40), drawn("กขคงจชดตถ", seed=1, longest=40), strict=True)
    ],
    "DNA": drawn("ACGT", longest=40),
    "emoji": drawn("😀😃😄😁😆😅🤣😂"),
    "names": drawn("abcdefghijklm"),
}


@pytest.mark.parametrize("name", WITHOUT_SPACES)
def test_words_of_text_without_spaces_are_refused_and_bytes_pairs_are_not(name: str, tmp_path: Path, capsys) -> None:
    train = written(tmp_path / "text.txt", WITHOUT_SPACES[name])
    assert main(["train", str(write_config(tmp_path, {"data.train": train}))]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "no spaces between words" in error
    of_characters = name not in ("DNA", "emoji", "names")
    assert error.endswith("set tokenizer.kind to character\n" if of_characters else "to character or bpe\n")
    assert not (tmp_path / "runs").exists()
    assert alarms_of(tmp_path, data__train=train, tokenizer__kind="character", data__max_length=60) == []
    assert alarms_of(tmp_path, data__train=train, tokenizer__kind="bpe", data__max_length=60) == []


def test_held_out_text_of_another_language_is_refused(tmp_path: Path) -> None:
    train, other = (written(tmp_path / f"{name}.txt", text) for name, text in (("en", ENGLISH_TEXT), ("ru", RUSSIANS)))
    with pytest.raises(UserError, match=r"100% of held-out tokens are unknown, .*else hold out other text"):
        tiny_experiment(tmp_path, {"data.train": train, "data.valid": other})


ENGLISH_TEXT, RUSSIANS = sentences(ENGLISH), sentences(RUSSIAN)


def test_a_vocabulary_of_nothing_is_refused_with_the_keys_that_mend_it(tmp_path: Path) -> None:
    train = written(tmp_path / "en.txt", ENGLISH_TEXT)
    with pytest.raises(UserError, match=r"raise tokenizer\.vocab_size or lower tokenizer\.min_count"):
        tiny_experiment(tmp_path, {"data.train": train, "tokenizer.vocab_size": 5})


def test_many_unknown_words_are_an_alarm(tmp_path: Path) -> None:
    train = written(tmp_path / "en.txt", ENGLISH_TEXT)
    mixed = written(tmp_path / "mixed.txt", [f"{a} {b} {b}" for a, b in zip(ENGLISH_TEXT, RUSSIANS, strict=True)])
    (alarm,) = alarms_of(tmp_path, data__train=train, data__valid=mixed, data__max_length=20)
    assert "% of held-out tokens are unknown" in alarm
    assert "set tokenizer.kind to bpe" in alarm


def test_characters_that_few_of_are_known_are_refused_or_an_alarm(tmp_path: Path) -> None:
    train, other = (written(tmp_path / f"{i}.txt", drawn(HAN[i : i + 12], seed=i)) for i in (0, 9))
    keys = {"data.train": train, "tokenizer.kind": "character", "data.max_length": 20, "generator.max_positions": 80}
    few = {**keys, "tokenizer.vocab_size": 5}
    with pytest.raises(UserError, match=r"tokenizer\.kind character: .*raise tokenizer\.vocab_size"):
        tiny_experiment(tmp_path, few)
    experiment, _ = tiny_experiment(tmp_path, {**keys, "data.valid": other})
    (alarm,) = [note for note in experiment.notes if note.startswith(UNSUITED)]
    assert re.search(r"7\d% of held-out tokens are unknown.*; if it is of the language", alarm)


def test_phrases_that_are_said_again_are_an_alarm_and_no_reason_to_refuse(tmp_path: Path) -> None:
    train = written(tmp_path / "zh.txt", drawn(HAN, 20) * 20)
    (alarm,) = alarms_of(tmp_path, data__train=train, data__valid=train)
    assert "no spaces between words" in alarm


def test_unknown_prompts_are_an_alarm(tmp_path: Path) -> None:
    def table(name: str, words: list[str]) -> str:
        pairs = zip(sentences(words, seed=3), ENGLISH_TEXT, strict=True)
        return written(tmp_path / name, [json.dumps({"prompt": a, "text": b}) for a, b in pairs])

    keys = {"data__kind": "hf", "data__prompt_column": "prompt", "data__train": table("train.jsonl", ENGLISH)}
    (alarm,) = alarms_of(tmp_path, **keys, data__valid=table("valid.jsonl", RUSSIAN))
    assert "100% of the tokens of held-out prompts are unknown" in alarm


def test_one_word_answers_to_prompts_are_no_reason(tmp_path: Path) -> None:
    rows = [json.dumps({"prompt": text, "text": random.choice(["yes", "no"])}) for text in ENGLISH_TEXT]
    train = written(tmp_path / "train.jsonl", rows)
    assert alarms_of(tmp_path, data__kind="hf", data__prompt_column="prompt", data__train=train) == []


def test_text_that_is_one_token_each_is_an_alarm(tmp_path: Path) -> None:
    train = written(tmp_path / "text.txt", [f"{text} " for text in ["ab", "cd", "ef"] * 60])
    (alarm,) = alarms_of(tmp_path, data__train=train, data__valid=train, tokenizer__kind="bpe")
    assert "100% of the training texts are one token" in alarm


def test_held_out_text_that_is_spelt_out_is_an_alarm(tmp_path: Path) -> None:
    def prose(seed: int) -> list[str]:
        return [" ".join(drawn("abcdefghij", 6, seed * 1000 + i, 5, 9)) for i in range(60)]

    train, valid = (written(tmp_path / f"{seed}.txt", prose(seed)) for seed in (1, 2))
    keys = {"data__train": train, "data__valid": valid, "data__max_length": 60, "tokenizer__kind": "bpe"}
    (alarm,) = alarms_of(tmp_path, **keys)
    assert "times as many tokens a character as training text" in alarm
    assert alarms_of(tmp_path, **keys, tokenizer__vocab_size=300) == []


def test_ordinary_text_has_no_alarm(tmp_path: Path) -> None:
    for kind in ("word", "bpe"):
        assert alarms_of(tmp_path, data__train=written(tmp_path / "en.txt", ENGLISH_TEXT), tokenizer__kind=kind) == []
    assert alarms_of(tmp_path, data__train=written(tmp_path / "ru.txt", RUSSIANS)) == []
    segmented = sentences(["今天", "天气", "很", "好", "我", "喜欢", "看", "书"])
    assert alarms_of(tmp_path, data__train=written(tmp_path / "zh.txt", segmented)) == []


def test_a_run_that_began_goes_on(tmp_path: Path) -> None:
    train = written(tmp_path / "zh.txt", drawn(HAN))
    english, _ = tiny_experiment(tmp_path, {"data.train": written(tmp_path / "en.txt", ENGLISH_TEXT)})
    experiment = load_experiment(tiny_config(tmp_path, {"data.train": train}), english.tokenizer)
    assert experiment.notes[0].startswith(UNSUITED)


@pytest.mark.parametrize("kind", ["word", "bpe", "character"])
def test_line_breaks_that_words_lose_are_an_alarm(tmp_path: Path, kind: str) -> None:
    poems = ["\n".join(sentences(ENGLISH, 4, seed)) for seed in range(100)]
    train = written(tmp_path / "poems.txt", [f"{poem}\n" for poem in poems])
    keys: dict[str, Any] = {"data__train": train, "tokenizer__kind": kind, "data__max_length": 60}
    found = alarms_of(tmp_path, **keys, data__document="paragraph")
    if kind == "word":
        assert "100% of the training texts have line breaks inside, which tokenizer.kind word loses" in found[0]
        assert "set tokenizer.kind to bpe" in found[0]
    else:
        assert found == []
    assert alarms_of(tmp_path, **keys, data__document="line") == []


@pytest.mark.parametrize(
    ("tokenizer", "large"),
    [
        ({"kind": "word"}, True),
        ({"kind": "word", "vocab_size": 60}, False),
        ({"kind": "bpe", "vocab_size": 1500}, True),
        ({"kind": "bpe", "vocab_size": 300}, False),
        ({"kind": "character"}, False),
        ({"kind": "character", "alphabet": "".join(map(chr, range(0x20, 0x20 + 4000)))}, False),  # was not learned
    ],
)
def test_a_vocabulary_of_more_than_a_tenth_of_the_tokens_is_told_of(
    tokenizer: dict[str, Any], large: bool, tmp_path: Path
) -> None:
    words = sorted(set(drawn("abcdefghi", count=160, shortest=3, longest=9)))
    train = written(tmp_path / "train.txt", sentences(words))  # about 900 words
    keys = {f"tokenizer.{key}": value for key, value in tokenizer.items()}
    keys |= {"data.train": train, "generator.max_positions": 80, "data.max_length": 40}
    experiment, _ = tiny_experiment(tmp_path, keys)
    found = [note for note in experiment.notes if "tokens of the vocabulary were learned from" in note]
    assert all(note.startswith(ALARM) and not note.startswith(UNSUITED) for note in found)
    assert bool(found) is large


def test_repeated_beginnings_of_prompts_and_text_that_is_cut_off_are_counted_as_what_they_are(tmp_path: Path) -> None:
    words = sorted(set(drawn("abcdefghi", count=160, shortest=3, longest=9)))
    keys = {
        "data.kind": "hf",
        "data.prompt_column": "prompt",
        "generator.max_positions": 800,
        "data.max_prompt_length": 400,
    }

    def alarms(prompt: str, text: str, max_length: int = 12) -> bool:
        rows = [{"prompt": prompt.format(one), "text": text} for one in sentences(words, count=100)]
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        more = {"data.train": str(tmp_path / "rows.jsonl"), "data.max_length": max_length}
        experiment, _ = tiny_experiment(tmp_path, keys | more)
        return any("tokens of the vocabulary were learned from" in note for note in experiment.notes)

    assert alarms("{}", "yes")
    assert alarms("be brief " * 100 + "{}", "yes")  # 20,000 tokens, of which the same 200 a hundred times
    assert not alarms("{}", "yes no " * 20)  # 3,600 tokens of answers, most of which are cut off
