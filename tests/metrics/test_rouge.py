"""ROUGE and what stands beside it, on cases small enough to be worked out by hand."""

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer

from gptgan_jax.metrics.rouge import cut_to_length, first_sentence, novel_ngrams, rouge, summary_figures


def test_rouge_is_the_f1_of_words_pairs_and_the_longest_common_subsequence() -> None:
    # 4 of 5 words against 4 of 6; pairs "the cat", "the mat" of 4 and 5; in order "the cat the mat".
    scores = rouge(["the cat saw the mat"], ["the cat sat on the mat"])
    f1 = {"ROUGE-1": 2 * 4 / 11, "ROUGE-2": 2 * 2 / 9, "ROUGE-L": 2 * 4 / 11}
    assert {name: float(values[0]) for name, values in scores.items()} == pytest.approx(f1)


def test_rouge_counts_order_only_where_it_should() -> None:
    scores = rouge(["mat the on"], ["on the mat"])
    assert scores["ROUGE-1"][0] == 1
    assert scores["ROUGE-2"][0] == 0
    assert scores["ROUGE-L"][0] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("summary", "real"),
    [
        ("We introduce a new method.", "A NEW method is introduced"),
        ("", "some words"),
        ("some words", ""),
        ("... !", "words"),
        ("the the the", "the"),
        ("training deep nets", "We train a deep net, with care."),
    ],
)
def test_rouge_is_that_of_the_library_with_its_stemmer(summary: str, real: str) -> None:
    theirs = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True).score(real, summary)
    ours = rouge([summary], [real])
    assert [float(values[0]) for values in ours.values()] == [one.fmeasure for one in theirs.values()]


ENGLISH = [
    "The naïve café owner — a friend of Beyoncé’s — paid £5.50 (or €6) for it.",
    "We don't know why U.S. markets fell by 3.5% on Tuesday, the Fed's chairman said.",
    'A state-of-the-art model, "GPT_2", was trained: it\'s 1,542M parameters!',
    "the cats were running happily through the gardens and the fields",
    "Nothing new",
]


def test_rouge_of_english_is_the_librarys_accents_included() -> None:
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    for shift in range(len(ENGLISH)):
        texts = [ENGLISH[(i + shift) % len(ENGLISH)] for i in range(len(ENGLISH))]
        theirs = [scorer.score(real, text) for text, real in zip(texts, ENGLISH, strict=True)]
        for (kind, ours), name in zip(rouge(texts, ENGLISH).items(), ("rouge1", "rouge2", "rougeL"), strict=True):
            assert ours.tolist() == [one[name].fmeasure for one in theirs], kind


# A text, and one that shares words with it: how many of how many there are.
SCRIPTS = {
    "Chinese": ("明月照高山，清风拂柳。", "明月照流水。", 3, 9, 5),
    "Japanese": ("今日は雨です。", "明日は雨です！", 5, 6, 6),
    "Thai": ("ฝนตกหนัก", "ฝนตก", 4, 8, 4),
    "Khmer": ("ខ្ញុំអាន", "ខ្ញុំ", 5, 8, 5),
    "Russian": ("Старый дом у реки.", "старый дом далеко", 2, 4, 3),
    "Greek": ("Το παλιό σπίτι", "παλιό σπίτι", 2, 3, 2),
    "Hindi": ("यह एक वाक्य है।", "एक वाक्य", 2, 4, 2),
    "Arabic": ("هذا كتاب جديد", "كتاب جديد!", 2, 3, 2),
    "Korean": ("오래된 집이 있다", "집이 있다.", 2, 3, 2),
    "Vietnamese": ("ngôi nhà cũ", "ngôi nhà mới", 2, 3, 3),
    "German": ("Übung ändert schöne Bäume", "übung ÄNDERT nichts", 2, 4, 3),
    "Chinese with English": ("我用 Python 3 写模型", "用 python 写", 3, 7, 3),
    "full-width": ("２００８年ＡＢＣ", "2008年abc", 3, 3, 3),
    "emoji": ("😀😃😄", "😀😄", 2, 3, 2),
    "signs": ("++>[<-]", "++", 2, 7, 2),
    "code": ("def f(x):\n    return x + 1", "def f(y): return y", 3, 6, 5),
    "DNA": ("ACGTACGT", "acgtacgt", 1, 1, 1),
}


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize("among", [[], ["two words", "and three more", "of plain English", "and so on"] * 3])
def test_rouge_in_any_script(name: str, among: list[str]) -> None:
    text, other, shared, words, of_other = SCRIPTS[name]
    assert rouge([text, *among], [text, *among])["ROUGE-1"][0] == 1
    assert rouge([text, *among], [text, *among])["ROUGE-L"][0] == 1
    assert rouge([other, *among], [text, *among])["ROUGE-1"][0] == pytest.approx(2 * shared / (words + of_other))
    assert rouge(["", *among], [text, *among])["ROUGE-1"][0] == 0


def test_a_text_without_anything_to_score_has_rouge_0() -> None:
    assert [rouge([text], [text])["ROUGE-L"][0] for text in ("", " \n")] == [0, 0]


def test_the_signature_says_by_which_words() -> None:
    def signature(real: list[str]) -> str:
        return summary_figures(real, real, real, "3 prompts")[0].signature

    assert signature(ENGLISH) == "3 prompts; F1, rouge-score, Porter stemmer"
    assert "characters where it has no spaces" in signature(["明月照高山。"] * 3)


def test_summaries_of_text_without_spaces_are_measured_by_characters() -> None:
    real, sources = ["明月照高山"] * 3, ["明月照高山。清风拂柳。"] * 3
    written = ["明月照高山清风", "清风", "明 月"]
    assert cut_to_length(written, real, "character") == ["明月照高山", "清风", "明 月"]
    figures = {figure.name: figure for figure in summary_figures(written, sources, real, "3 prompts", "character")}
    assert figures["length over the real one's"].estimate.value == pytest.approx(11 / 15)
    assert figures["length over the real one's"].signature == "3 prompts; characters"
    assert figures["new 2-grams"].estimate.value == pytest.approx((1 / 6 + 0 + 0) / 3)
    assert figures["ROUGE-L at the real length"].estimate.value == pytest.approx((1 + 0 + 2 * 2 / 7) / 3)


def test_a_longer_summary_gains_nothing_at_the_real_length() -> None:
    real = ["one two three four"]
    short, padded = ["one two x y"], ["one two x y three four"]
    assert rouge(padded, real)["ROUGE-1"][0] > rouge(short, real)["ROUGE-1"][0]
    assert cut_to_length(padded, real) == short
    assert cut_to_length(["one"], real) == ["one"]


def test_novelty_is_what_the_source_lacks() -> None:
    source = ["a b c d"]
    assert novel_ngrams(["a b c"], source, 2).value == 0
    assert novel_ngrams(["c b a"], source, 2).value == 1
    assert novel_ngrams(["a b x"], source, 2).value == 0.5
    assert novel_ngrams(["a b a b a b"], source, 2).value == 0.5  # "a b" is old, "b a" is new
    assert novel_ngrams(["a"], source, 2).value is None
    assert novel_ngrams(["a b", "a"], source * 2, 2).value == 0


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("One two. Three four.", "One two."),
        ("the cat sat . it slept .", "the cat sat ."),
        ("no end here", "no end here"),
        ("Really? Yes!", "Really?"),
        ("  version 2.0 is\nhere. Now", "version 2.0 is here."),
        ("", ""),
        ("明月照高山。清风拂柳。", "明月照高山。"),
        ("好吗？好！", "好吗？"),
        ("今日は雨です｡ 明日は晴れです｡", "今日は雨です｡"),
        ("「行きます。」彼は言った。", "「行きます。」"),
        ("约３．５米高。很好", "约３．５米高。"),
        ("你好吗?我很好.", "你好吗?"),
        ("版本2.0发布了.很好", "版本2.0发布了."),
        ("यह एक वाक्य है। यह दूसरा है।", "यह एक वाक्य है।"),
        ("यह एक है।यह दूसरा", "यह एक है।"),
        ("هل هذا كتاب؟ نعم", "هل هذا كتاب؟"),
        ("یہ کتاب ہے۔ وہ", "یہ کتاب ہے۔"),
        ("ฝนตกหนัก เราอยู่บ้าน", "ฝนตกหนัก เราอยู่บ้าน"),
    ],
)
def test_the_first_sentence(text: str, first: str) -> None:
    assert first_sentence(text) == first


def test_real_summaries_have_the_best_figures_and_shuffled_ones_do_not() -> None:
    real = ["one two three", "four five six", "seven eight nine"]
    sources = [f"{text} and more of it" for text in real]
    best = {figure.name: figure.estimate.value for figure in summary_figures(real, sources, real, "3 prompts")}
    rolled = [*real[1:], real[0]]
    worst = {figure.name: figure.estimate.value for figure in summary_figures(rolled, sources, real, "3 prompts")}
    rouges = [name for name in best if name.startswith("ROUGE")]
    assert len(rouges) == 6
    assert all(best[name] == pytest.approx(1) and worst[name] == 0 for name in rouges)
    assert best["length over the real one's"] == 1
    assert (best["new 2-grams"], worst["new 2-grams"]) == (0, 1)


def test_texts_that_do_not_pair_up_are_refused() -> None:
    for wrong in (lambda: rouge(["a"], ["a", "b"]), lambda: novel_ngrams(["a", "b"], ["a"], 2)):
        with pytest.raises(ValueError, match="zip"):
            wrong()
    assert np.isnan(summary_figures(["x"], ["y"], ["z"], "")[0].estimate.value or 0) == 0
