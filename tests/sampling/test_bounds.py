"""Where sampling draws a line: the last token that top-p keeps, and the last token that a continuation knows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import VOCABULARY, batch_of, generator_of

from gptgan_jax import Sample, rollout_values, sample
from gptgan_jax.sampling.decoding import _nucleus_threshold, shape_logits
from gptgan_jax.sampling.rollouts import stretches_of

# Sums of these are exact in float32.
PROBS = jnp.array([0.125, 0.5, 0.0625, 0.25, 0.0625])


@pytest.mark.parametrize(
    ("top_p", "least"),
    [(0.5, 0.5), (0.75, 0.25), (0.875, 0.125), (1.0, 0.0625)],
)
def test_tokens_whose_probability_is_just_top_p_are_enough(top_p: float, least: float) -> None:
    """The smallest set whose probability *reaches* p (Holtzman et al. 2020)."""
    assert float(_nucleus_threshold(PROBS, top_p)[0]) == least
    after = float(np.nextafter(np.float32(top_p), np.float32(2)))
    if top_p < 1:
        assert float(_nucleus_threshold(PROBS, after)[0]) == least / 2
    before = float(np.nextafter(np.float32(top_p), np.float32(0)))
    assert float(_nucleus_threshold(PROBS, before)[0]) == least


def test_so_are_two_of_four_equal_pairs() -> None:
    """Of eight tokens of probability 1/8, four are half; ties stay together."""
    assert np.isfinite(shape_logits(jnp.zeros(8), top_p=0.5)).all()
    # Two tokens have all the probability, each of them a half: exp(-200) is 0 in float32.
    logits = jnp.array([0.0, -200.0, 0.0, -200.0])
    np.testing.assert_array_equal(np.isfinite(shape_logits(logits, top_p=1.0)), [True, False, True, False])


@pytest.mark.cases(1)
@pytest.mark.parametrize("stretches", [1, 2, 5])
def test_continuations_share_just_the_tokens_that_they_are_told_to(stretches: int) -> None:
    """As many as all of a stretch have in common with the text: one more differs in some, where they are drawn."""
    generator, params = generator_of("lstm")
    batch, length = batch_of((1, 2, 3) * 20, (6, 4, 2) * 20, length=6), 6
    texts, lengths = np.where(batch.target_mask, batch.target, -1), np.asarray(batch.target_mask.sum(axis=1))
    told: list[int] = []

    def value(key: jax.Array, tokens: jax.Array, mask: jax.Array, shared: int) -> jax.Array:
        """The tokens before the first that is another, and those of the continuation, as two digits."""
        told.append(shared)
        found = jnp.where(mask, tokens, -1)
        same = (found == texts).astype(jnp.int32)
        as_told = same[:, :shared].min(axis=1) == 1
        whole = (mask[:, :-1] >= mask[:, 1:]).all(axis=1)  # without a gap
        digits = 10 * jnp.cumprod(same, axis=1).sum(axis=1) + mask.sum(axis=1)
        return jnp.where(as_told & whole, digits, -1).astype(jnp.float32)

    written = Sample(batch.target, batch.target_mask, jnp.zeros(batch.target.shape))
    prompts = batch.prompt, batch.prompt_mask
    options = {"temperature": 5.0, "stretches": stretches}
    found = rollout_values(generator, params, jax.random.key(0), *prompts, written, 1, value, **options)
    agree, size = np.divmod(np.asarray(found).astype(int), 10)
    assert (agree >= 0).all(), "a continuation differs where it should be shared, or has a gap"
    assert told[-1] == length
    assert sorted(set(told[:-1])) == [int(stretch[0]) + 1 for stretch in stretches_of(length, stretches)]
    for t in range(length - 1):
        goes_on = lengths > t + 1
        # The text up to and including t is known, and the next token is drawn: it is the text's by chance alone.
        assert agree[goes_on, t].min() == t + 1
        assert (agree[goes_on, t] == t + 1).mean() > 0.5
        assert size[goes_on, t].min() == t + 2
        # A text that has ended is its own continuation.
        assert (agree[~goes_on, t] == length).all()
        assert (size[~goes_on, t] == lengths[~goes_on]).all()


def test_a_sample_knows_its_prompt_alone() -> None:
    generator, params = generator_of("lstm")
    batch = batch_of((2,) * 200, (4,) * 200)
    one = jnp.broadcast_to(batch.prompt[:1], batch.prompt.shape)
    drawn = sample(generator, params, jax.random.key(0), one, batch.prompt_mask, 4, 5.0)
    assert len(set(np.asarray(drawn.tokens[:, 0]).tolist())) == VOCABULARY.size
