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
    Discriminator,
    LinearConfig,
    MlpConfig,
    Scores,
    TransformerConfig,
    TransformerDiscriminatorConfig,
    Vocabulary,
    build_discriminator,
    build_generator,
    sample,
    share_trunk,
    unconditional_batch,
)
from gptgan_jax.models.discriminator_networks import DiscriminatorConfig
from gptgan_jax.models.discriminators import without_prompts

KINDS: dict[str, DiscriminatorConfig] = {
    "linear": LinearConfig(embedding=4),
    "mlp": MlpConfig(embedding=4, hidden=6, layers=2, dropout=0.4),
    "cnn": CnnConfig(embedding=4, widths=(1, 2, 3), filters=5, dropout=0.4),
    "representations": CnnConfig(
        embedding=4, representations=2, widths=(1, 3), filters=3, highway=True, hidden=3, dropout=0.4
    ),
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


@pytest.mark.cases(3)
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
    expected = [scores.tokens[0, 3], scores.tokens[1, 1], scores.tokens[2, 2]]
    np.testing.assert_allclose(scores.sequence, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_scores_the_same_cut_after_any_token_as_at_that_token_of_the_whole(kind: str) -> None:
    batch = batch_of(targets=(4, 4, 4))
    whole = judge(kind)(batch)
    for size in (1, 2, 3):
        cut = batch.replace(target_mask=jnp.tile(jnp.arange(4) < size, (3, 1)))
        np.testing.assert_allclose(judge(kind)(cut).sequence, whole.tokens[:, size - 1], **CLOSE)


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    ("spectral_norm", "classes", "hidden", "highway"),
    [(False, 0, False, True), (True, 3, False, False), (False, 0, True, False)],
)
def test_texts_that_share_a_beginning_score_as_when_each_is_read_from_its_start(
    spectral_norm: bool, classes: int, hidden: bool, highway: bool
) -> None:
    config = CnnConfig(
        embedding=4, widths=(1, 2, 3, 9), filters=5, spectral_norm=spectral_norm, highway=highway, hidden=3 * highway
    )
    discriminator = build_discriminator(config, VOCABULARY, classes)
    if hidden:
        discriminator = without_prompts(discriminator, VOCABULARY)
    assert discriminator.continuations is not None
    texts, count = batch_of(targets=(4, 2, 3)), 2
    params = random_params(jax.eval_shape(discriminator.init, jax.random.key(0), texts))
    kept = discriminator.continuations.read(params, texts)
    for shared in range(1, 5):
        ends = jax.tree.map(lambda x: jnp.repeat(x, count, axis=0), texts)
        later = jnp.arange(4) >= shared
        other = jax.random.randint(jax.random.key(shared), ends.target.shape, 3, VOCABULARY.size)
        # Who goes on after `shared` tokens may end earlier or later than the text that was read.
        longer = ends.target_mask.at[::count].set(ends.target_mask[::count] | (later & ends.target_mask[::count, :1]))
        ends = ends.replace(target=jnp.where(later, other, ends.target), target_mask=longer)
        found = jax.jit(discriminator.continuations.scores, static_argnums=3)(params, kept, ends, shared)
        wanted = discriminator.scores(params, ends)
        assert found.tokens.shape == (6, 0)
        for name in ("sequence", "classes", "features"):
            if getattr(wanted, name) is not None:
                np.testing.assert_allclose(getattr(found, name), getattr(wanted, name), **CLOSE, err_msg=name)


@pytest.mark.cases(2)
@pytest.mark.parametrize("kind", KINDS)
def test_a_text_that_the_generator_wrote_scores_as_the_same_text_from_the_data(kind: str) -> None:
    generator, params = generator_of("gpt2")
    batch = batch_of(prompts=(2, 1, 2), targets=(4, 4, 4))
    written = jax.jit(lambda p: sample(generator, p, jax.random.key(3), batch.prompt, batch.prompt_mask, 4))(params)
    fake = batch.replace(target=written.tokens, target_mask=written.mask)
    real = fake.replace(target=jnp.where(written.mask, written.tokens, 6))  # as a corpus with another filler holds it
    both = judge(kind)(jax.tree.map(lambda *x: jnp.concatenate(x), real, fake))
    assert_same_scores(rows(both, slice(0, 3)), rows(both, slice(3, 6)), np.asarray(written.mask))


@pytest.mark.parametrize("kind", ["mlp", "cnn", "representations", "transformer"])
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


def test_representations_by_hand_are_cnns_with_one_set_of_filters_on_parts_of_the_embedding() -> None:
    """RelGAN's discriminator (weilinie/RelGAN, models/rmc_vanilla.py), a text and a part at a time."""
    p, scores = numbers("representations"), judge("representations")(batch_of())
    assert scores.parts is not None
    np.testing.assert_allclose(scores.parts.mean(axis=1), scores.sequence, **CLOSE)
    for text, found in zip(texts(), scores.parts, strict=True):
        for part in range(2):
            table, pooled = p["embedding"]["table"][:, 2 * part : 2 * part + 2], []
            for width in (1, 3):
                x = [np.zeros(2)] * (width - 1) + [table[token] for token in text]
                layer = p[f"width_{width}"]
                inputs = [np.concatenate(x[i : i + width]) for i in range(len(text))]
                pooled.append(np.max([np.maximum(v @ layer["kernel"] + layer["bias"], 0) for v in inputs], axis=0))
            y = np.concatenate(pooled)
            share = 1 / (1 + np.exp(-y @ p["highway_gate"]["kernel"]))
            y = share * np.maximum(y @ p["highway"]["kernel"], 0) + (1 - share) * y
            y = y @ p["hidden"]["kernel"] + p["hidden"]["bias"]
            by_hand = y @ p["head"]["score"]["kernel"] + p["head"]["score"]["bias"]
            assert float(found[part]) == pytest.approx(float(by_hand[0]), abs=1e-5)


def test_representations_must_divide_the_embedding_and_have_no_classes() -> None:
    with pytest.raises(ValueError, match="representations 3 must divide embedding 4: the parts are of equal size"):
        CnnConfig(embedding=4, representations=3)
    with pytest.raises(ValueError, match="scored separately, without classes"):
        build_discriminator(CnnConfig(embedding=4, representations=2), VOCABULARY, classes=2)


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


@pytest.mark.cases(1)
@pytest.mark.parametrize("scan_layers", [False, True])
def test_the_next_token_is_predicted_as_by_a_generator_of_the_same_transformer(scan_layers: bool) -> None:
    sizes: dict[str, Any] = {
        "layers": 2, "width": 8, "heads": 2, "max_positions": 16, "positions": "rotary", "scan_layers": scan_layers,
    }  # fmt: skip
    generator = build_generator(TransformerConfig(**sizes), VOCABULARY)
    discriminator = build_discriminator(TransformerDiscriminatorConfig(**sizes), VOCABULARY)
    params_g, params_d = (
        random_params(jax.eval_shape(x.init, jax.random.key(0), batch_of()), seed)
        for seed, x in enumerate((generator, discriminator))
    )
    batch = batch_of()
    assert discriminator.next_logits is not None
    logits = discriminator.next_logits(share_trunk(params_g, params_d), batch)
    expected = generator.logits(params_g, batch)
    assert logits.shape == (*batch.target.shape, VOCABULARY.size)
    inside = np.asarray(batch.target_mask)
    np.testing.assert_allclose(np.asarray(logits)[inside], np.asarray(expected)[inside], **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
def test_only_a_transformer_predicts_the_next_token(kind: str) -> None:
    predicts = build_discriminator(KINDS[kind], VOCABULARY).next_logits is not None
    assert predicts == isinstance(KINDS[kind], TransformerDiscriminatorConfig)


def test_a_discriminator_with_an_encoder_is_refused() -> None:
    with pytest.raises(ValueError, match="encoder_layers must be 0"):
        TransformerDiscriminatorConfig(encoder_layers=1)


def network_of(kind: str) -> tuple[Discriminator, Any]:
    """A discriminator and the random parameters that `judge` uses."""
    return build_discriminator(KINDS[kind], VOCABULARY), judge(kind).args[0]


def shares(seed: int = 0) -> jax.Array:
    """Relaxed tokens, [3, 4, 7]: rows sum to 1."""
    return jax.nn.softmax(jnp.asarray(np.random.default_rng(seed).normal(size=(3, 4, 7)), jnp.float32))


def every_score(scores: Scores, mask: jax.Array) -> jax.Array:
    """One number to which each score that counts contributes in its own proportion."""
    proportions = 1 + jnp.arange(mask.size, dtype=jnp.float32).reshape(mask.shape) / mask.size
    return (scores.tokens * proportions * mask).sum() + (scores.sequence * jnp.array([1.0, -2.0, 0.5])).sum()


def by_differences(function: Any, x: jax.Array, step: float = 2e-3) -> jax.Array:
    """The gradient of a scalar function by central differences in every entry."""
    basis = step * jnp.eye(x.size, dtype=x.dtype).reshape(x.size, *x.shape)
    values = jax.jit(jax.vmap(lambda d: function(x + d) - function(x - d)))(basis)
    return (values / (2 * step)).reshape(x.shape)


@pytest.mark.parametrize("kind", KINDS)
def test_one_hot_weights_give_the_scores_of_the_tokens(kind: str) -> None:
    (discriminator, params), batch = network_of(kind), batch_of()
    unread = batch.replace(target=jnp.zeros_like(batch.target))

    @jax.jit
    def relaxed(weights: jax.Array) -> tuple[jax.Array, Scores]:
        embeddings = discriminator.embed(params, unread, weights)
        return embeddings, discriminator.judge(params, embeddings, unread)

    embeddings, scores = relaxed(jax.nn.one_hot(batch.target, VOCABULARY.size))
    np.testing.assert_allclose(embeddings, discriminator.embed(params, batch), atol=1e-6)
    assert_trees_close(scores, judge(kind)(batch), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_relaxed_tokens_embed_as_the_mixture_of_the_tables_rows(kind: str) -> None:
    (discriminator, params), batch = network_of(kind), batch_of()
    table = np.asarray(params.get("trunk", params)["embedding"]["table"], np.float64)
    embeddings = discriminator.embed(params, batch, shares())
    np.testing.assert_allclose(embeddings[:, :3], table[np.asarray(batch.prompt)], rtol=1e-6)
    np.testing.assert_allclose(embeddings[:, 3:], np.asarray(shares(), np.float64) @ table, rtol=1e-5, atol=1e-6)


def test_bfloat16_embeddings_of_one_hot_weights_are_those_of_the_tokens() -> None:
    discriminator, batch = build_discriminator(LinearConfig(embedding=4, dtype="bfloat16"), VOCABULARY), batch_of()
    _, params = network_of("linear")
    relaxed = discriminator.embed(params, batch, jax.nn.one_hot(batch.target, VOCABULARY.size))
    assert relaxed.dtype == jnp.bfloat16
    np.testing.assert_array_equal(relaxed, discriminator.embed(params, batch))


@pytest.mark.cases(1)
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_by_weights_and_by_embeddings_are_those_of_finite_differences(kind: str) -> None:
    (discriminator, params), batch = network_of(kind), batch_of()

    def of_embeddings(embeddings: jax.Array) -> jax.Array:
        return every_score(discriminator.judge(params, embeddings, batch), batch.target_mask)

    def of_weights(weights: jax.Array) -> jax.Array:
        return of_embeddings(discriminator.embed(params, batch, weights))

    embeddings = discriminator.embed(params, batch, shares())
    # Apart, as equal tokens would tie for a maximum, where any split of the gradient between them is one.
    embeddings = embeddings + 0.05 * jax.random.normal(jax.random.key(0), embeddings.shape)
    for function, x in ((of_weights, shares()), (of_embeddings, embeddings)):
        gradient = jax.jit(jax.grad(function))(x)
        assert np.abs(gradient).max() > 0.05
        np.testing.assert_allclose(gradient, by_differences(function, x), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_no_score_has_a_gradient_by_embeddings_outside_the_masks(kind: str) -> None:
    (discriminator, params), batch = network_of(kind), batch_of()

    @jax.jit
    @jax.grad
    def gradient(embeddings: jax.Array) -> jax.Array:
        return every_score(discriminator.judge(params, embeddings, batch), batch.target_mask)

    mask = np.concatenate([batch.prompt_mask, batch.target_mask], axis=1)
    sizes = np.abs(gradient(discriminator.embed(params, batch, shares()))).max(axis=-1)
    np.testing.assert_array_equal(sizes[~mask], 0)
    assert (sizes[mask] > 0).mean() > 0.5


@pytest.mark.cases(1)
@pytest.mark.parametrize("kind", KINDS)
def test_a_penalty_on_the_gradient_by_embeddings_can_itself_be_differentiated(kind: str) -> None:
    (discriminator, params), batch = network_of(kind), batch_of()
    embeddings = discriminator.embed(params, batch, shares())
    direction = random_params(params, seed=5)

    def penalty(amount: jax.Array | float) -> jax.Array:
        moved = jax.tree.map(lambda x, d: x + amount * d, params, direction)
        gradient = jax.grad(lambda x: discriminator.judge(moved, x, batch).sequence.sum())(embeddings)
        return (jnp.sqrt(jnp.square(gradient).sum(axis=(1, 2))) - 1).sum()

    value, slope = jax.jit(penalty), jax.jit(jax.grad(penalty))(0.0)
    assert abs(slope) > 0.1
    assert float(slope) == pytest.approx(float(value(1e-3) - value(-1e-3)) / 2e-3, rel=2e-2, abs=2e-3)


def test_embeddings_of_another_shape_or_too_many_are_refused() -> None:
    (discriminator, params), batch = network_of("transformer"), batch_of()
    embeddings = discriminator.embed(params, batch)
    with pytest.raises(ValueError, match=r"\(3, 4, 8\) do not fit a batch of \(3, 7\) tokens"):
        discriminator.judge(params, embeddings[:, 3:], batch)
    long = padded(batch, right=18)
    with pytest.raises(ValueError, match="25 tokens need max_positions >= 25"):
        discriminator.judge(params, discriminator.embed(params, long), long)
    assert discriminator.next_logits is not None
    with pytest.raises(ValueError, match="25 tokens need max_positions >= 25"):
        discriminator.next_logits(params, long)


def test_a_cnn_with_one_width_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="contain a duplicate; raise filters"):
        CnnConfig(widths=(2, 3, 2))


def test_prompts_of_several_texts_are_not_read_once_with_a_window() -> None:
    vocabulary = Vocabulary(size=9)
    generator = build_generator(TransformerConfig(layers=1, width=8, heads=2, max_positions=16, window=3), vocabulary)
    one = unconditional_batch(jnp.full((2, 4), 5), vocabulary)
    params = generator.init(jax.random.key(0), one)
    with pytest.raises(ValueError, match="repeat the prompt"):
        generator.logits(params, one.replace(prompt=one.prompt[:1], prompt_mask=one.prompt_mask[:1]))
