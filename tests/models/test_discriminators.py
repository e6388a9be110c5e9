"""Discriminators: the same text gets the same score, wherever it stands and wherever it comes from."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import VOCABULARY, assert_trees_close, batch_of, generator_of, padded, random_params, rows

from gptgan_jax import (
    CnnConfig,
    LinearConfig,
    MlpConfig,
    Scores,
    TransformerConfig,
    TransformerDiscriminatorConfig,
    build_discriminator,
    build_generator,
    sample,
    share_trunk,
)
from gptgan_jax.models.discriminators import DiscriminatorConfig

KINDS: dict[str, DiscriminatorConfig] = {
    "linear": LinearConfig(embedding=4),
    "mlp": MlpConfig(embedding=4, hidden=6, layers=2, dropout=0.4),
    "cnn": CnnConfig(embedding=4, widths=(1, 2, 3), filters=5, dropout=0.4),
    "transformer": TransformerDiscriminatorConfig(layers=1, width=8, heads=2, max_positions=24, dropout=0.4),
    "rotary": TransformerDiscriminatorConfig(
        layers=2, width=8, heads=4, kv_heads=2, positions="rotary", norm="rms", activation="swiglu", scan_layers=True
    ),
}
CLOSE: dict[str, float] = {"rtol": 1e-4, "atol": 1e-5}


@functools.cache
def judge(kind: str) -> Any:
    """(batch, dropout_key) -> Scores, jitted, with random parameters."""
    discriminator = build_discriminator(KINDS[kind], VOCABULARY)
    params = random_params(jax.eval_shape(discriminator.init, jax.random.key(0), batch_of()))
    return functools.partial(jax.jit(discriminator.scores), params)


def assert_same_scores(actual: Scores, desired: Scores, mask: Any) -> None:
    np.testing.assert_allclose(actual.sequence, desired.sequence, **CLOSE)
    np.testing.assert_allclose(np.asarray(actual.tokens)[mask], np.asarray(desired.tokens)[mask], **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_on_either_side_changes_no_score(kind: str) -> None:
    batch, mask = batch_of(), np.asarray(batch_of().target_mask)
    scores = judge(kind)(batch)
    assert len(set(np.round(scores.sequence, 4).tolist())) == 3
    more = judge(kind)(padded(batch, left=2, right=3))
    assert_same_scores(more.replace(tokens=more.tokens[:, :4]), scores, mask)


@pytest.mark.parametrize("kind", KINDS)
def test_batch_order_and_company_change_no_score(kind: str) -> None:
    batch = batch_of()
    scores, order = judge(kind)(batch), jnp.array([2, 0, 1])
    assert_same_scores(judge(kind)(rows(batch, order)), rows(scores, order), np.asarray(batch.target_mask)[order])
    company = jax.tree.map(lambda a, b: jnp.concatenate([a[1:2], b[:2]]), batch, batch_of(seed=9))
    assert_same_scores(
        rows(judge(kind)(company), slice(0, 1)), rows(scores, slice(1, 2)), np.asarray(batch.target_mask)[1:2]
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_score_depends_on_the_text_so_far_and_on_nothing_later(kind: str) -> None:
    batch = batch_of(targets=(4, 4, 4))
    before = np.asarray(judge(kind)(batch).tokens)
    for t in range(4):
        changed = batch.replace(target=batch.target.at[:, t].set(1))
        after = np.asarray(judge(kind)(changed).tokens)
        np.testing.assert_array_equal(after[:, :t], before[:, :t])
        assert (np.abs(after - before)[:, t] > 1e-6).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_sequence_score_is_the_token_score_at_the_last_token(kind: str) -> None:
    batch = batch_of(targets=(4, 2, 3))
    scores = judge(kind)(batch)
    np.testing.assert_array_equal(scores.sequence, [scores.tokens[0, 3], scores.tokens[1, 1], scores.tokens[2, 2]])


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_scores_the_same_cut_after_any_token_as_at_that_token_of_the_whole(kind: str) -> None:
    batch = batch_of(targets=(4, 4, 4))
    whole = judge(kind)(batch)
    for size in (1, 2, 3):
        cut = batch.replace(target_mask=jnp.tile(jnp.arange(4) < size, (3, 1)))
        np.testing.assert_allclose(judge(kind)(cut).sequence, whole.tokens[:, size - 1], **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_that_the_generator_wrote_scores_as_the_same_text_from_the_data(kind: str) -> None:
    generator, params = generator_of("gpt2")
    batch = batch_of(prompts=(2, 1, 2), targets=(4, 4, 4))
    written = jax.jit(lambda p: sample(generator, p, jax.random.key(3), batch.prompt, batch.prompt_mask, 4))(params)
    fake = batch.replace(target=written.tokens, target_mask=written.mask)
    real = fake.replace(target=jnp.where(written.mask, written.tokens, 6))  # as a corpus with another filler holds it
    both = judge(kind)(jax.tree.map(lambda *x: jnp.concatenate(x), real, fake))
    assert_same_scores(rows(both, slice(0, 3)), rows(both, slice(3, 6)), np.asarray(written.mask))


@pytest.mark.parametrize("kind", ["mlp", "cnn", "transformer"])
def test_dropout_acts_only_where_a_key_is_given(kind: str) -> None:
    batch = batch_of()
    first, again, other = (judge(kind)(batch, jax.random.key(k)).sequence for k in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-4
    assert np.abs(first - judge(kind)(batch).sequence).max() > 1e-4


def numbers(kind: str) -> dict[str, Any]:
    return jax.tree.map(lambda x: np.asarray(x, np.float64), judge(kind).args[0])


def texts() -> list[list[int]]:
    """Prompt and target of each row of `batch_of()`, without padding."""
    batch = batch_of()
    both = [
        np.concatenate(pair, axis=1) for pair in ((batch.prompt, batch.target), (batch.prompt_mask, batch.target_mask))
    ]
    return [tokens[mask].tolist() for tokens, mask in zip(*both, strict=True)]


def test_linear_by_hand_is_a_sigmoid_of_w_x_plus_b_on_the_mean_embedding() -> None:
    p = numbers("linear")
    for text, score in zip(texts(), judge("linear")(batch_of()).sequence, strict=True):
        mean = sum(p["embedding"]["table"][token] for token in text) / len(text)
        assert float(score) == pytest.approx(
            float((mean @ p["head"]["score"]["kernel"] + p["head"]["score"]["bias"])[0]), abs=1e-5
        )


def test_cnn_by_hand_is_the_maximum_over_windows_of_each_width() -> None:
    p = numbers("cnn")
    for text, score in zip(texts(), judge("cnn")(batch_of()).sequence, strict=True):
        features = []
        for width in (1, 2, 3):
            x = [np.zeros(4)] * (width - 1) + [p["embedding"]["table"][token] for token in text]
            layer = p[f"width_{width}"]
            inputs = [np.concatenate(x[i : i + width]) for i in range(len(text))]
            features.append(np.max([np.maximum(v @ layer["kernel"] + layer["bias"], 0) for v in inputs], axis=0))
        score_by_hand = np.concatenate(features) @ p["head"]["score"]["kernel"] + p["head"]["score"]["bias"]
        assert float(score) == pytest.approx(float(score_by_hand[0]), abs=1e-5)


def test_a_discriminator_can_start_from_the_generators_transformer() -> None:
    sizes: dict[str, Any] = {"layers": 1, "width": 8, "heads": 2, "max_positions": 16}
    generator = build_generator(TransformerConfig(**sizes), VOCABULARY)
    discriminator = build_discriminator(TransformerDiscriminatorConfig(**sizes), VOCABULARY)
    params_g, params_d = (
        random_params(jax.eval_shape(x.init, jax.random.key(0), batch_of()), seed)
        for seed, x in enumerate((generator, discriminator))
    )
    shared = share_trunk(params_g, params_d)
    assert_trees_close(shared["trunk"], params_g["trunk"], rtol=0, atol=0)
    assert_trees_close(shared["head"], params_d["head"], rtol=0, atol=0)
    wider = build_discriminator(TransformerDiscriminatorConfig(**(sizes | {"width": 12})), VOCABULARY)
    with pytest.raises(ValueError, match="same Transformer"):
        share_trunk(params_g, jax.eval_shape(wider.init, jax.random.key(0), batch_of()))


def test_a_discriminator_with_an_encoder_is_refused() -> None:
    with pytest.raises(ValueError, match="encoder_layers must be 0"):
        TransformerDiscriminatorConfig(encoder_layers=1)
