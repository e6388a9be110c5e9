"""The unit of a text: words where it has spaces between words, else characters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptgan_jax.tokenization.units import Tokens, first_units, plural, spacing_of, unit_for, unit_notes, units_of

TEXTS = {
    "English": ("word", ["the old man is near the river .", "an old dog is there .", "Two words"]),
    "English answers, some of one word": ("word", ["near the gate", "yes", "the horses", "two dogs"]),
    "Russian": ("word", ["Мама мыла раму.", "Старый дом стоит у реки."]),
    "Hindi": ("word", ["यह एक वाक्य है।", "नदी के पास एक पुराना घर है।"]),
    "Arabic": ("word", ["البيت القديم قرب النهر", "هذا كتاب جديد"]),
    "Korean": ("word", ["오래된 집이 강가에 있다.", "나는 책을 읽는다."]),
    "code": ("word", ["def f(x):\n    return x + 1", "for i in range(3):\n    print(i)"]),
    "token ids": ("word", ["12 77 3 4", "5 6 7 8"]),
    "segmented Chinese": ("word", ["今天 天气 很 好 。", "我 喜欢 看 书 ， 也 喜欢 音乐 。"]),
    "Chinese by the character": ("word", ["明 月 照 高 山", "清 风 拂 柳"]),
    "segmented Thai": ("word", ["ผม ชอบ อ่าน หนังสือ มาก", "วันนี้ อากาศ ดี"]),
    "English with a Chinese name": ("word", ["he wrote to 王小明 about the book", "the word 山 means mountain"]),
    "nothing": ("word", []),
    "blank": ("word", ["", "  "]),
    "Chinese": ("character", ["明月照高山，清风拂柳。", "今天天气很好。"]),
    "Chinese clauses with spaces": ("character", ["春眠不觉晓 处处闻啼鸟", "夜来风雨声 花落知多少"]),
    "Chinese with English words": ("character", ["我用 Python 写了一个模型", "这是 machine learning 的例子，不是论文"]),
    "Japanese": ("character", ["今日は天気がいいですね。", "カタカナとひらがな"]),
    "Thai with spaces between phrases": ("character", ["ผมชอบอ่านหนังสือมาก แต่ไม่มีเวลา", "วันนี้อากาศดีมาก เราไปเที่ยวกัน"]),
    "Khmer": ("character", ["ខ្ញុំចូលចិត្តអានសៀវភៅ", "ថ្ងៃនេះអាកាសធាតុល្អ"]),
    "Lao": ("character", ["ຂ້ອຍມັກອ່ານປຶ້ມຫຼາຍ ແຕ່ບໍ່ມີເວລາ"]),
    "Burmese": ("character", ["ကျွန်တော်စာဖတ်ရတာကြိုက်တယ်။ ဒီနေ့ရာသီဥတုကောင်းတယ်။"]),
    "DNA": ("character", ["ACGTTGCA" * 5, "TTGACCA" * 4]),
    "molecules": ("character", ["CC(C)Cc1ccc(cc1)", "C[NH2+][C@@H]1c2cc"]),
    "emoji": ("character", ["😀😃😄", "😉😊😇😍"]),
    "names": ("character", ["emma", "olivia", "Anna Maria"]),
}


@pytest.mark.parametrize("name", TEXTS)
def test_the_unit_of_real_text(name: str) -> None:
    unit, texts = TEXTS[name]
    assert spacing_of(texts).unit == unit
    assert spacing_of(texts * 3000).unit == unit


def test_one_word_answers_to_questions_are_words_and_chinese_ones_are_not() -> None:
    asked = ["is the dog near the river ?", "who sleeps ?"]
    assert spacing_of(["yes", "no"], asked).unit == "word"
    assert spacing_of(["yes", "no"]).unit == "character"
    assert spacing_of(["明月照高山，清风拂柳。"], asked).unit == "character"


@pytest.mark.parametrize("count", [2, 1500, 2000, 4001])
@pytest.mark.parametrize("asked", [2, 1000, 3999])
def test_one_word_answers_are_words_however_many_are_looked_at(count: int, asked: int) -> None:
    """Also where one question is a word, as is a text of one word with a blank in its place."""
    assert spacing_of(["yes", "no"] * count, ["_", *["is the dog _ the river ?"] * asked]).unit == "word"
    assert spacing_of(["CCO", "CCN"] * count, ["CC_", "C_O"] * asked).unit == "character"


def test_labels_as_prompts_make_no_characters_of_words() -> None:
    assert spacing_of(["a dull film", "boring", "full of wit"], ["negative", "negative", "positive"]).unit == "word"
    assert spacing_of(["ACGTTGCA", "TTGACCA"], ["coding", "other"]).unit == "character"


def test_words_are_what_white_space_parts_and_characters_are_all_else() -> None:
    assert units_of([" a  b\tc\n", ""], "word") == [["a", "b", "c"], []]
    assert units_of(["明月 照\n山。", " 7\u3000é"], "character") == [["明", "月", "照", "山", "。"], ["7", "é"]]


@given(st.text())
def test_characters_are_the_text_without_its_white_space(text: str) -> None:
    (characters,) = units_of([text], "character")
    assert "".join(characters) == "".join(text.split())
    assert all(len(one) == 1 for one in characters)


@pytest.mark.parametrize("unit", ["word", "character"])
@given(text=st.text(st.sampled_from("ab明 \n")), count=st.integers(0, 9))
def test_the_first_units_are_those_of_the_text(unit, text: str, count: int) -> None:
    whole, cut = units_of([text, first_units(text, count, unit)], unit)
    assert cut == whole[:count]


def test_a_text_that_is_cut_by_characters_keeps_the_spaces_between_them() -> None:
    assert first_units(" 用 Python 写的", 8, "character") == "用 Python 写"
    assert first_units("one two three", 2, "word") == "one two"


def test_what_stands_for_an_unknown_character_is_one() -> None:
    assert units_of(["明<unk> <unk>月<u"], "character") == [["明", "<unk>", "<unk>", "月", "<", "u"]]
    assert first_units("明<unk> 月", 2, "character") == "明<unk>"


class Pairs:
    """Spells a text in pairs of characters."""

    def encode_batch(self, texts):
        return [[ord(text[i]) * 1000 + ord(text[i + 1]) for i in range(0, len(text) - 1, 2)] for text in texts]

    def decode(self, ids):
        return "".join(chr(i // 1000) + chr(i % 1000) for i in ids)


def test_tokens_are_those_in_which_a_tokenizer_spells_a_text() -> None:
    unit = Tokens(Pairs(), "pairs")
    assert units_of(["abcd", ""], unit) == [["97098", "99100"], []]
    assert first_units("abcd", 1, unit) == "ab"
    assert plural(unit).startswith("tokens of tokenizer ")
    assert plural(unit) == plural(Tokens(Pairs(), "pairs")) != plural(Tokens(Pairs(), "others"))
    assert unit_for("token", ["a b"], tokens=unit) is unit
    assert "evaluation.unit token" in unit_notes("token", unit)[0]
    with pytest.raises(ValueError, match="needs a tokenizer"):
        unit_for("token", ["a b"])


def test_a_tokenizer_of_one_kind_of_unit_says_which_where_none_is_asked_for() -> None:
    assert unit_for("auto", ["two words"], own="character") == "character"
    assert unit_for("auto", ["7", "8"], own="word") == "word"
    assert unit_for("auto", ["7", "8"]) == "character"
    assert unit_for("word", ["two words"], own="character") == "word"
