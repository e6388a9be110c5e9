"""Discriminators with class logits: the score is their log-sum-exp, and nothing else about the networks changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import VOCABULARY, batch_of, padded, random_params

from gptgan_jax import (
    CnnConfig,
    Discriminator,
    LinearConfig,
    MlpConfig,
    TransformerDiscriminatorConfig,
    build_discriminator,
)
from gptgan_jax.models.discriminator_networks import DiscriminatorConfig
from gptgan_jax.models.discriminators import without_prompts

K = 3
KINDS: dict[str, DiscriminatorConfig] = {
    "linear": LinearConfig(embedding=4),
    "mlp_spectral": MlpConfig(embedding=4, hidden=6, dropout=0.2, spectral_norm=True),
    "cnn": CnnConfig(embedding=4, widths=(1, 3), filters=3),
    "transformer": TransformerDiscriminatorConfig(layers=1, width=8, heads=2, max_positions=24),
}


def network(kind: str) -> tuple[Discriminator, object]:
    discriminator = build_discriminator(KINDS[kind], VOCABULARY, K)
    return discriminator, random_params(jax.eval_shape(discriminator.init, jax.random.key(0), batch_of()))


@pytest.mark.cases(1)
@pytest.mark.parametrize("kind", KINDS)
def test_the_score_is_the_log_sum_exp_of_the_class_logits(kind: str) -> None:
    discriminator, params = network(kind)
    scores = discriminator.scores(params, batch_of())
    assert discriminator.classes == K
    assert scores.classes.shape == (3, K)
    logits = np.asarray(scores.classes, np.float64)
    np.testing.assert_allclose(scores.sequence, np.log(np.exp(logits).sum(axis=1)), rtol=1e-5)


@pytest.mark.cases(2)
@pytest.mark.parametrize("kind", KINDS)
def test_the_class_logits_are_linear_in_the_features(kind: str) -> None:
    discriminator, params = network(kind)
    first, second = (discriminator.scores(params, batch_of(seed=seed)) for seed in (0, 1))
    features = np.concatenate([first.features, second.features], dtype=np.float64)
    logits = np.concatenate([first.classes, second.classes], dtype=np.float64)
    with_one = np.concatenate([features, np.ones((6, 1))], axis=1)
    fitted = with_one @ np.linalg.lstsq(with_one, logits, rcond=None)[0]
    if with_one.shape[1] < 6:  # otherwise any logits would be
        np.testing.assert_allclose(fitted, logits, atol=1e-4)
    assert first.features.shape[0] == 3


@pytest.mark.cases(2)
@pytest.mark.parametrize("kind", KINDS)
def test_class_logits_and_features_do_not_change_with_padding(kind: str) -> None:
    discriminator, params = network(kind)
    scores, wider = (discriminator.scores(params, batch) for batch in (batch_of(), padded(batch_of(), 3, 5)))
    np.testing.assert_allclose(scores.classes, wider.classes, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(scores.features, wider.features, rtol=1e-5, atol=1e-5)


@pytest.mark.cases(2)
@pytest.mark.parametrize("kind", KINDS)
def test_real_and_generated_text_begin_about_alike_likely_however_many_classes_there_are(kind: str) -> None:
    discriminator = build_discriminator(KINDS[kind], VOCABULARY, 50)
    scores = discriminator.scores(discriminator.init(jax.random.key(0), batch_of()), batch_of())
    assert np.abs(scores.sequence).max() < 0.5


@pytest.mark.cases(1)
@pytest.mark.parametrize("kind", KINDS)
def test_without_prompts_the_text_alone_is_judged(kind: str) -> None:
    discriminator, params = network(kind)
    blind = without_prompts(discriminator, VOCABULARY)
    batch, other = batch_of(seed=0), batch_of(prompts=(2, 1, 3), seed=1)
    other = batch.replace(prompt=other.prompt, prompt_mask=other.prompt_mask)
    seen, unseen = (blind.scores(params, one) for one in (batch, other))
    for name in ("tokens", "sequence", "classes", "features"):
        np.testing.assert_array_equal(getattr(seen, name), getattr(unseen, name))
    assert np.abs(discriminator.scores(params, batch).sequence - seen.sequence).max() > 1e-3
    bare = batch.replace(prompt=jnp.full((3, 1), VOCABULARY.bos_id, jnp.int32), prompt_mask=jnp.ones((3, 1), bool))
    np.testing.assert_allclose(seen.classes, discriminator.scores(params, bare).classes, rtol=1e-5, atol=1e-5)


def test_without_prompts_a_transformer_predicts_from_bos_on() -> None:
    discriminator, params = network("transformer")
    blind = without_prompts(discriminator, VOCABULARY)
    batch = batch_of()
    bare = batch.replace(prompt=jnp.full((3, 1), VOCABULARY.bos_id, jnp.int32), prompt_mask=jnp.ones((3, 1), bool))
    ours, theirs = blind.next_logits(params, batch), discriminator.next_logits(params, bare)
    mask = batch.target_mask[..., None]
    np.testing.assert_allclose(jnp.where(mask, ours, 0), jnp.where(mask, theirs, 0), rtol=1e-5, atol=1e-5)


def test_without_classes_there_are_no_logits_of_any() -> None:
    discriminator = build_discriminator(KINDS["linear"], VOCABULARY)
    scores = discriminator.scores(discriminator.init(jax.random.key(0), batch_of()), batch_of())
    assert discriminator.classes == 0
    assert scores.classes is None


def test_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="needs at least two of them"):
        build_discriminator(KINDS["linear"], VOCABULARY, 1)
