"""Texts from a generator: the same for the same key, as many as asked for, after the prompt that was given, and with
the log-probabilities that teacher forcing gives them. Texts of a split in the form that these have."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import tiny_experiment

from gptgan_jax.data.corpora import Split
from gptgan_jax.data.encoding import Ragged, encode_split
from gptgan_jax.generation.texts import Drawing, TextSet, TextWriter, Written, text_set
from gptgan_jax.runs.experiment import Experiment
from gptgan_jax.scoring.held_out_likelihood import HeldOut, likelihood_of
from gptgan_jax.types import Batch, Params, unconditional_batch

SEED = 0
Likelihood = Callable[..., HeldOut]
DRAWINGS = [Drawing(), Drawing(0.5), Drawing(1.6), Drawing(top_p=0.6), Drawing(0.7, 5), Drawing(1.4, 9, 0.8)]


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    return tiny_experiment(tmp_path_factory.mktemp("texts"))[0]


@pytest.fixture(scope="module")
def params(experiment: Experiment) -> Params:
    return jax.jit(experiment.generator.init)(jax.random.key(5), experiment.example_batch())


@pytest.fixture(scope="module")
def write(experiment: Experiment) -> TextWriter:
    return TextWriter(experiment.generator, experiment.tokenizer, length=6, batch_size=4)


@pytest.fixture(scope="module")
def likelihood(experiment: Experiment) -> Likelihood:
    return likelihood_of(experiment.generator)


def test_equal_seeds_write_equal_texts_and_others_others(write: TextWriter, params: Params) -> None:
    assert write(params, SEED, 9, Drawing()).texts == write(params, SEED, 9, Drawing()).texts
    assert write(params, SEED, 9, Drawing()).texts != write(params, 1, 9, Drawing()).texts


@pytest.mark.parametrize("count", [1, 4, 5, 9])
def test_it_writes_as_many_as_asked_for_and_fewer_are_the_first_of_more(write, params, count: int) -> None:
    some, more = write(params, SEED, count, Drawing()), write(params, SEED, 12, Drawing())
    assert some.tokens.shape == some.mask.shape == (count, 6)
    assert some.texts == more.texts[:count]
    assert len(set(more.texts)) > 6, "batches of one call must not repeat each other"


def test_a_text_is_what_its_mask_covers_without_special_tokens(write, params, experiment: Experiment) -> None:
    written = write(params, SEED, 8, Drawing())
    for text, tokens, mask in zip(written.texts, written.tokens, written.mask, strict=True):
        assert text == experiment.tokenizer.decode(tokens[mask].tolist())
        assert not {"<pad>", "<bos>", "<eos>"} & set(text.split())


def test_prompts_are_used_in_turn(write: TextWriter, params: Params) -> None:
    """Greedily: rows of the same prompt write the same text."""
    prompts = [[5], [6, 7], [8, 9, 10]]
    texts = write(params, SEED, 9, Drawing(temperature=0.0), prompts).texts
    assert texts[:3] == texts[3:6] == texts[6:]


def test_padding_beside_a_longer_prompt_changes_no_text(write: TextWriter, params: Params) -> None:
    alone = write(params, SEED, 1, Drawing(temperature=0.0), [[5]])
    beside = write(params, SEED, 1, Drawing(temperature=0.0), [[5], [8, 9, 10]])
    assert alone.texts == beside.texts


def test_top_k_1_and_a_tiny_top_p_are_greedy(write: TextWriter, params: Params) -> None:
    greedy = write(params, SEED, 4, Drawing(temperature=0.0)).tokens
    np.testing.assert_array_equal(write(params, SEED, 4, Drawing(top_k=1)).tokens, greedy)
    np.testing.assert_array_equal(write(params, SEED, 4, Drawing(top_p=1e-6)).tokens, greedy)


# --- log-probabilities ---


@pytest.mark.parametrize("drawing", DRAWINGS, ids=str)
def test_the_log_probability_of_a_text_is_the_teacher_forced_one(
    write: TextWriter, params: Params, likelihood: Likelihood, experiment: Experiment, drawing: Drawing
) -> None:
    written = write(params, SEED, 9, drawing)
    batch = unconditional_batch(written.tokens, experiment.generator.vocabulary)
    np.testing.assert_array_equal(batch.target_mask, written.mask)
    held_out = likelihood(params, [batch], drawing)
    assert written.log_probs.shape == (9,)
    assert written.log_probs.dtype == np.float64
    np.testing.assert_allclose(written.log_probs, -held_out.nats, rtol=1e-5)
    assert np.isfinite(written.log_probs).all(), "what was drawn is possible"


def test_the_log_probability_of_an_answer_is_the_teacher_forced_one_after_its_prompt(
    write: TextWriter, params: Params, likelihood: Likelihood, experiment: Experiment
) -> None:
    vocabulary = experiment.generator.vocabulary
    written = write(params, SEED, 5, Drawing(0.8), [[5], [6, 7, 8]])
    prompt = np.array([[vocabulary.pad_id] * 2 + [vocabulary.bos_id, 5], [vocabulary.bos_id, 6, 7, 8]])
    prompt_mask = np.array([[False, False, True, True], [True] * 4])
    turns = np.arange(5) % 2
    batch = Batch(*map(jnp.asarray, (prompt[turns], prompt_mask[turns], written.tokens, written.mask, np.full(5, -1))))
    held_out = likelihood(params, [batch], Drawing(0.8))
    np.testing.assert_allclose(written.log_probs, -held_out.nats, rtol=1e-5)


def test_greedy_text_is_certain(write: TextWriter, params: Params) -> None:
    np.testing.assert_allclose(write(params, SEED, 4, Drawing(0.0)).log_probs, 0.0, atol=1e-6)


# --- sets ---


def same_texts(a: TextSet, b: TextSet) -> bool:
    return a.texts == b.texts and [ids.tolist() for ids in a.targets] == [ids.tolist() for ids in b.targets]


def test_what_was_written_is_a_set_of_the_tokens_that_count() -> None:
    tokens = np.array([[4, 5, 2, 0], [3, 3, 3, 3], [2, 0, 0, 0]], np.int32)
    mask = np.array([[1, 1, 1, 0], [1, 1, 1, 1], [1, 0, 0, 0]], bool)
    found = Written(["b c", "a a a a", ""], tokens, mask, np.zeros(3)).as_set()
    assert len(found) == 3
    assert found.texts == ["b c", "a a a a", ""]
    assert [ids.tolist() for ids in found.targets] == [[4, 5, 2], [3, 3, 3, 3], [2]]
    assert found.targets.tokens.dtype == np.int32
    assert found.targets.offsets.dtype == np.int64


@pytest.mark.parametrize(
    ("rows", "chosen"),
    [
        (slice(0, 2), [0, 1]),
        (slice(1, None), [1, 2, 3]),
        (slice(0, 99), [0, 1, 2, 3]),
        (slice(2, 2), []),
        (np.array([3, 0, 3]), [3, 0, 3]),
        (np.array([-1]), [3]),
        (np.array([False, True, False, True]), [1, 3]),
    ],
    ids=repr,
)
def test_a_part_has_the_chosen_texts_with_their_tokens_in_the_order_of_the_choice(
    rows: slice | np.ndarray, chosen: list[int]
) -> None:
    whole = TextSet(["", "a", "b c", "a b c"], Ragged(np.array([2, 3, 2, 4, 5, 2, 3, 4, 5]), np.array([0, 1, 3, 6, 9])))
    part = whole.part(rows)
    assert len(part) == len(chosen)
    assert part.texts == [whole.texts[i] for i in chosen]
    assert [ids.tolist() for ids in part.targets] == [whole.targets[i].tolist() for i in chosen]


def test_the_set_of_a_split_is_cut_to_length_and_shows_unknown_words_as_such(experiment: Experiment) -> None:
    split = encode_split(Split(["cats run", "dogs zoom here", "two birds sing"]), experiment.tokenizer, 3)
    found = text_set(split, experiment.tokenizer)
    assert found.texts == ["cats run", "dogs <unk> here", "two birds sing"]
    shorter = text_set(encode_split(Split(["two birds sing"]), experiment.tokenizer, 2), experiment.tokenizer)
    assert shorter.texts == ["two birds"]
    assert [len(ids) for ids in found.targets] == [3, 3, 3]
    assert found.targets[0][-1] == experiment.generator.vocabulary.eos_id


def test_the_set_of_a_writers_text_is_that_of_the_same_text_in_a_split(experiment: Experiment) -> None:
    texts = ["cats run", "two birds sing here", "mice"]
    eos = experiment.generator.vocabulary.eos_id
    tokens, mask = np.zeros((3, 6), np.int32), np.zeros((3, 6), bool)
    for i, text in enumerate(texts):
        ids = [*experiment.tokenizer.encode(text), eos]
        tokens[i, : len(ids)], mask[i, : len(ids)] = ids, True
    split = encode_split(Split(texts), experiment.tokenizer, 6)
    assert same_texts(text_set(split, experiment.tokenizer), Written(texts, tokens, mask, np.zeros(3)).as_set())


# --- drawings ---


def test_a_drawing_says_all_that_is_on_and_hands_on_nothing_that_is_off() -> None:
    assert [str(drawing) for drawing in DRAWINGS] == [
        "temperature 1",
        "temperature 0.5",
        "temperature 1.6",
        "temperature 1, top-p 0.6",
        "temperature 0.7, top-k 5",
        "temperature 1.4, top-k 9, top-p 0.8",
    ]
    assert Drawing(0.5).options() == {}
    assert Drawing(top_p=0.6).options() == {"top_p": 0.6}
    assert Drawing(1.4, 9, 0.8).options() == {"top_k": 9, "top_p": 0.8}
