"""Texts from a generator: the same for the same key, as many as asked for, after the prompt that was given."""

import jax
import numpy as np
import pytest
from tiny import tiny_experiment

from gptgan_jax.evaluation.texts import Drawing, TextWriter
from gptgan_jax.runs.experiment import Experiment
from gptgan_jax.types import Params

SEED = 0


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    return tiny_experiment(tmp_path_factory.mktemp("texts"))[0]


@pytest.fixture(scope="module")
def params(experiment: Experiment) -> Params:
    return jax.jit(experiment.generator.init)(jax.random.key(5), experiment.example_batch())


@pytest.fixture(scope="module")
def write(experiment: Experiment) -> TextWriter:
    return TextWriter(experiment.generator, experiment.tokenizer, length=6, batch_size=4)


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
