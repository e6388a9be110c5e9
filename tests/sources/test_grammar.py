"""The grammar engine against brute force on toy grammars, and what the English grammar promises."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from gptgan_jax.sources.grammar import conjugate, english_scenes, plural
from gptgan_jax.sources.pcfg import PCFG, Rule, rules_from_text


def grammar_of(text: str) -> PCFG:
    return PCFG(tuple(rules_from_text(text)))


TOY = grammar_of("""
    S -> Noun Verb 3 | Noun Verb Object 1 | look 0.5   # three kinds of sentences
    Object -> the Noun 2 | Noun and Noun
    Noun -> cats 2 | dogs 1 | fish 1
    Verb -> see 3 | fish 1
""")
TWO_PARSES = grammar_of("""
    S -> Near w Far 1 | Left Right 3
    Near -> u v
    Far -> x | y
    Left -> u 1 | u v 2
    Right -> v w x 1 | w x 4
""")


def enumerate_language(grammar: PCFG) -> dict[str, float]:
    """Sentence -> probability, by writing out every derivation."""
    by_left: dict[str, list[Rule]] = {}
    for rule in grammar.rules:
        by_left.setdefault(rule.left, []).append(rule)

    def texts(symbol: str) -> list[tuple[tuple[str, ...], float]]:
        if symbol not in by_left:
            return [((symbol,), 1.0)]
        return [
            (sum((words for words, _ in parts), ()), rule.probability * math.prod(p for _, p in parts))
            for rule in by_left[symbol]
            for parts in itertools.product(*map(texts, rule.right))
        ]

    language: dict[str, float] = {}
    for words, probability in texts(grammar.start):
        language[" ".join(words)] = language.get(" ".join(words), 0.0) + probability
    return language


# ------------------------------------------------------------------------------------------------------- the engine


@pytest.mark.parametrize("grammar", [TOY, TWO_PARSES], ids=["toy", "two parses"])
def test_log_prob_is_that_of_enumeration_and_sums_to_one(grammar: PCFG) -> None:
    language = enumerate_language(grammar)
    assert math.fsum(math.exp(grammar.log_prob(text)) for text in language) == pytest.approx(1, abs=1e-12)
    for text, probability in language.items():
        assert grammar.log_prob(text) == pytest.approx(math.log(probability), abs=1e-12)


def test_no_other_string_of_the_words_has_probability() -> None:
    language = enumerate_language(TOY)
    for length in range(1, 5):
        for words in itertools.product(TOY.words, repeat=length):
            assert (TOY.log_prob(" ".join(words)) > -math.inf) == (" ".join(words) in language)


@pytest.mark.parametrize("text", ["", " ", "cats", "cats see ", " cats see", "cats  see", "cats see horses", "S"])
def test_ungrammatical_text_has_no_derivation(text: str) -> None:
    assert TOY.log_prob(text) == -math.inf
    assert TOY.count_derivations(text) == 0
    assert TOY.derivation(text) is None


def test_two_parses_are_counted_and_their_probabilities_added() -> None:
    # S -> Near w Far: 1/4 * 1/2;  S -> Left Right with u|v w x: 3/4 * 1/3 * 1/5, with u v|w x: 3/4 * 2/3 * 4/5
    assert TWO_PARSES.count_derivations("u v w x") == 3
    assert TWO_PARSES.count_derivations("u v w y") == 1
    assert TWO_PARSES.count_derivations("u w x") == 1
    assert math.exp(TWO_PARSES.log_prob("u v w x")) == pytest.approx(1 / 8 + 1 / 20 + 2 / 5)
    best = TWO_PARSES.derivation("u v w x")
    assert best is not None
    assert [rule.right for rule in best] == [("Left", "Right"), ("u", "v"), ("w", "x")]


@pytest.mark.parametrize("grammar", [TOY, TWO_PARSES], ids=["toy", "two parses"])
def test_the_probability_of_a_beginning_is_that_of_all_sentences_that_begin_so(grammar: PCFG) -> None:
    """Of every string of up to four words, possible or not."""
    language = enumerate_language(grammar)
    for length in range(5):
        for words in itertools.product(grammar.words, repeat=length):
            expected = math.fsum(p for text, p in language.items() if tuple(text.split()[:length]) == words)
            assert math.exp(grammar.prefix_log_prob(" ".join(words))) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("grammar", [TOY, TWO_PARSES], ids=["toy", "two parses"])
def test_the_longest_beginning_and_what_can_follow_it_are_those_of_enumeration(grammar: PCFG) -> None:
    language = [text.split() for text in enumerate_language(grammar)]
    for length in range(5):
        for words in itertools.product([*grammar.words, "never"], repeat=length):
            longest = max(k for k in range(length + 1) if any(text[:k] == list(words[:k]) for text in language))
            following = {text[longest] for text in language if text[:longest] == list(words[:longest]) != text}
            assert grammar.longest_beginning(" ".join(words)) == (longest, following)


def test_the_longest_beginning_in_english_is_the_last_with_a_probability() -> None:
    grammar, rng = english_scenes(), np.random.default_rng(0)
    for text in grammar.sample(rng, 20):
        words = text.split()
        words[rng.integers(len(words))] = rng.choice(grammar.words)
        possible = [grammar.prefix_log_prob(" ".join(words[:k])) > -math.inf for k in range(len(words) + 1)]
        assert grammar.longest_beginning(" ".join(words))[0] == sum(possible) - 1
        assert possible == sorted(possible, reverse=True)


def test_sample_frequencies_follow_log_prob() -> None:
    count = 20_000
    drawn = Counter(TOY.sample(np.random.default_rng(0), count))
    texts = sorted(enumerate_language(TOY))
    assert set(drawn) <= set(texts)
    expected = np.array([count * math.exp(TOY.log_prob(text)) for text in texts])
    assert expected.min() > 5
    assert stats.chisquare([drawn[text] for text in texts], expected * (count / expected.sum())).pvalue > 1e-3


def test_sample_depends_on_the_seed_alone() -> None:
    grammar = english_scenes()
    first = grammar.sample(np.random.default_rng(7), 50)
    assert first == grammar.sample(np.random.default_rng(7), 50)
    assert first != grammar.sample(np.random.default_rng(8), 50)
    assert grammar.sample(np.random.default_rng(7), 0) == []
    with pytest.raises(ValueError, match="count must be at least 0"):
        grammar.sample(np.random.default_rng(7), -1)


def test_closed_forms_are_those_of_enumeration() -> None:
    language = enumerate_language(TOY)
    assert TOY.entropy() == pytest.approx(-math.fsum(p * math.log(p) for p in language.values()))
    lengths, counts = np.zeros(6), Counter[str]()
    for text, probability in language.items():
        lengths[len(text.split())] += probability
        for word in text.split():
            counts[word] += probability  # type: ignore[assignment]
    np.testing.assert_allclose(TOY.length_distribution(), lengths, atol=1e-12)
    assert TOY.expected_counts() == pytest.approx(dict(counts))
    assert TOY.words == ("and", "cats", "dogs", "fish", "look", "see", "the")


def test_derivation_is_leftmost_and_replays_to_the_sentence() -> None:
    grammar = english_scenes()
    left_sides = {rule.left for rule in grammar.rules}
    for text in grammar.sample(np.random.default_rng(1), 200):
        derivation = grammar.derivation(text)
        assert derivation is not None
        assert math.fsum(math.log(rule.probability) for rule in derivation) == pytest.approx(grammar.log_prob(text))
        form: tuple[str, ...] = (grammar.start,)
        for rule in derivation:
            place = next(i for i, symbol in enumerate(form) if symbol in left_sides)
            assert form[place] == rule.left
            form = (*form[:place], *rule.right, *form[place + 1 :])
        assert " ".join(form) == text


def test_weights_are_normalised_per_left_side() -> None:
    totals: dict[str, float] = {}
    for rule in english_scenes().rules:
        totals[rule.left] = totals.get(rule.left, 0.0) + rule.probability
    np.testing.assert_allclose(list(totals.values()), 1.0)
    assert TOY.rules[0] == Rule("S", ("Noun", "Verb"), 3 / 4.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("S -> Noun\nNoun -> dog\nVerb -> runs", "'Verb' cannot be reached from 'S'"),
        ("S -> Noun runs", "'Noun' is undefined"),
        ("T -> runs", "'S' is undefined"),
        ("S -> runs 0", "the weight of 'S -> runs' must be positive"),
        ("S -> runs -1", "the weight of 'S -> runs' must be positive"),
        ("S -> runs | 2", "the right side of 'S -> ' is empty"),
        ("S -> runs |", "the right side of 'S -> ' is empty"),
        ("S -> runs 1 | runs 2", "'S -> runs' is given twice"),
        ("S -> dog\ndog -> runs", "'dog -> runs' must begin with an upper-case letter"),
        ("S -> Noun | x\nNoun -> S dog", "recursive: .*S.*Noun"),
        ("S runs", "line 1 is not of the form"),
        ("S -> a\nS ->", "line 2 is not of the form"),
    ],
)
def test_a_wrong_grammar_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refusal:
        grammar_of(text)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("weight", [math.inf, math.nan])
def test_a_weight_that_is_not_finite_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match="must be positive and finite"):
        PCFG((Rule("S", ("runs",), weight),))


def test_text_notation() -> None:
    rules = list(rules_from_text("S -> A b 2 | c   # comment | not a rule\n\n# all comment\nA -> 2 d"))
    assert rules == [Rule("S", ("A", "b"), 2.0), Rule("S", ("c",), 1.0), Rule("A", ("2", "d"), 1.0)]


# ----------------------------------------------------------------------------------------------- the English grammar


def test_every_sentence_has_one_derivation() -> None:
    grammar = english_scenes()
    for text in grammar.sample(np.random.default_rng(2), 2_000):
        assert grammar.count_derivations(text) == 1, text


def test_rare_sentences_have_one_derivation_too() -> None:
    """With all alternatives made equally likely, what is ambiguous in rare rules shows."""
    flat = PCFG(tuple(rule._replace(probability=1.0) for rule in english_scenes().rules))
    for text in flat.sample(np.random.default_rng(3), 2_000):
        assert flat.count_derivations(text) == 1, text


@pytest.mark.thorough
def test_entropy_is_the_mean_surprisal_of_sentences() -> None:
    grammar = english_scenes()
    surprisal = [-grammar.log_prob(text) for text in grammar.sample(np.random.default_rng(4), 4_000)]
    assert abs(np.mean(surprisal) - grammar.entropy()) < 4 * stats.sem(surprisal)
    assert 28 < grammar.entropy() < 45


def test_lengths_are_4_to_24_by_construction() -> None:
    probabilities = english_scenes().length_distribution()
    possible = np.flatnonzero(probabilities)
    assert possible.min() == 4
    assert possible.max() <= 24
    assert probabilities.sum() == pytest.approx(1)
    assert 10 <= probabilities @ np.arange(len(probabilities)) <= 12.5


def test_every_word_is_frequent_enough_to_be_learnt() -> None:
    grammar = english_scenes()
    counts = grammar.expected_counts()
    assert 500 <= len(grammar.words) <= 900
    assert min(counts.values()) * 20_000 >= 5, min(counts, key=counts.__getitem__)
    assert counts["."] == pytest.approx(1)
    probabilities = grammar.length_distribution()
    assert sum(counts.values()) == pytest.approx(probabilities @ np.arange(len(probabilities)))


def test_words_are_lower_case_ascii() -> None:
    for word in english_scenes().words:
        assert word in {".", ","} or (word.isascii() and word.isalpha() and word.islower()), word


MINIMAL_PAIRS = [  # what only the second sentence violates, a sentence of the grammar, and its violation
    ("subject and verb", "the dog is sleeping in the park .", "the dog are sleeping in the park ."),
    ("subject and verb", "the dogs sleep in the park .", "the dogs sleeps in the park ."),
    ("subject and perfect", "the women have read a letter .", "the women has read a letter ."),
    ("pair of subjects", "the boy and the girl are happy .", "the boy and the girl is happy ."),
    ("determiner and noun", "these dogs were tired .", "this dogs were tired ."),
    ("number and noun", "two cats were tired .", "two cat were tired ."),
    ("every and noun", "every cat was tired .", "every cats were tired ."),
    ("a, an and noun", "an owl was noisy .", "a owl was noisy ."),
    ("a, an and noun", "a cat was dirty .", "an cat was dirty ."),
    ("a, an and adjective", "a young artist was dancing .", "an young artist was dancing ."),
    ("a, an and adjective", "an old man was dancing .", "a old man was dancing ."),
    ("auxiliary and form", "the girl is eating an apple .", "the girl is eats an apple ."),
    ("auxiliary and form", "the girl has eaten an apple .", "the girl has ate an apple ."),
    ("modal and form", "the girl can eat an apple .", "the girl can eats an apple ."),
    ("frequency and form", "the girl often eats an apple .", "the girl often eating an apple ."),
    ("tense of clauses", "the boy sang while the girl was dancing .", "the boy sang while the girl is dancing ."),
    ("tense of clauses", "when the boy sings , the girl dances .", "when the boy sings , the girl danced ."),
    ("tense of clauses", "after the boy sang , the girl danced .", "after the boy sang , the girl dances ."),
    ("tense of what is said", "the boy says that the cat is hungry .", "the boy says that the cat was hungry ."),
    ("tense and time", "yesterday , the old dogs ate .", "yesterday , the old dogs eat ."),
    ("tense and time", "the car is stopping near the gate now .", "the car was stopping near the gate now ."),
    ("existential", "there are two birds near the wall .", "there is two birds near the wall ."),
    ("existential", "there was a bird on the bench .", "there was the bird on the bench ."),
    ("order of adjectives", "the big brown dog is hungry .", "the brown big dog is hungry ."),
    ("adjective of the noun", "the sweet banana is fresh .", "the elderly banana is fresh ."),
    ("who and that", "the man who sings is happy .", "the dog who eats is happy ."),
    ("verb in a subject relative", "the men who sing are happy .", "the men who sings are happy ."),
    (
        "verb after a subject relative",
        "the man who feeds the dogs is happy .",
        "the man who feeds the dogs are happy .",
    ),
    ("gap", "the dog that the man feeds is hungry .", "the dog that the man feeds the cat is hungry ."),
    (
        "verb in an object relative",
        "the dogs that the man owns sleep on a rug .",
        "the dogs that the man own sleep on a rug .",
    ),
    (
        "verb after an object relative",
        "the two brown horses that the farmer owns are standing near an old wooden gate .",
        "the two brown horses that the farmer owns is standing near an old wooden gate .",
    ),
    (
        "verb in an object relative",
        "the dogs that the old farmer feeds are chasing a brown cat .",
        "the dogs that the old farmer feed are chasing a brown cat .",
    ),
    ("verb after a prepositional phrase", "the man with the dog is proud .", "the man with the dog are proud ."),
    ("tense of a relative clause", "the man who sang was happy .", "the man who sang is happy ."),
    ("participle of the passive", "the apple was eaten by a child .", "the apple was ate by a child ."),
    ("number in the passive", "the cakes are being eaten by a child .", "the cakes is being eaten by a child ."),
    ("who reads what", "the woman is reading a book .", "the woman is reading a banana ."),
    ("who reads", "the student reads the letters .", "the horse reads the letters ."),
    ("who drinks what", "the boy drank some cold milk .", "the boy drank some cold books ."),
    ("who drives where", "the bus moved along the road .", "the bus moved along the kitchen ."),
    ("who flies", "the eagle flies over the house .", "the truck flies over the house ."),
    ("transitive", "the farmer was feeding the pigs .", "the farmer was feeding near the pigs ."),
    ("intransitive", "the children are laughing .", "the children are laughing the dogs ."),
    ("ditransitive", "the boy is giving the girl a ball .", "the boy is giving the ball a girl ."),
    ("comparison", "the boy is taller than the girl .", "the boy is tall than the girl ."),
    ("the stop", "the boy is happy .", "the boy is happy"),
    ("the stop", "the boy is happy .", "the boy is happy . ."),
]


@pytest.mark.parametrize(("what", "right", "wrong"), MINIMAL_PAIRS)
def test_minimal_pair(what: str, right: str, wrong: str) -> None:
    grammar = english_scenes()
    assert grammar.log_prob(right) > -math.inf, f"{what}: refused {right}"
    assert grammar.log_prob(wrong) == -math.inf, f"{what}: accepted {wrong}"


def test_wrong_sentences_are_wrong_by_order_and_not_by_unknown_words() -> None:
    unknown = {word for _, _, wrong in MINIMAL_PAIRS for word in wrong.split()} - set(english_scenes().words)
    assert not unknown


@pytest.mark.parametrize(
    ("verb", "forms"),
    [
        ("study", "study studies studied studying studied studied"),
        ("chase", "chase chases chased chasing chased chased"),
        ("watch", "watch watches watched watching watched watched"),
        ("play", "play plays played playing played played"),
        ("see", "see sees saw seen"),  # no -ing here, so no "being seen" either
        ("sit", "sit sits sat sitting sat sat"),
        ("read", "read reads reading read read"),  # no past, which would look like the present
    ],
)
def test_conjugation(verb: str, forms: str) -> None:
    by_name = conjugate(verb)
    order = [name for name in ("base", "s", "past", "ing", "pp", "passive") if name in by_name]
    assert [by_name[name] for name in order] == forms.split()


def test_plurals() -> None:
    assert [plural(noun) for noun in ("dog", "bus", "fox", "bench", "story", "toy")] == [
        *("dogs", "buses", "foxes", "benches", "stories", "toys")
    ]
