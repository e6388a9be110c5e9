"""A program on all of the functional API, for type checkers: mypy --strict and pyright (test_typed.py)."""

from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import gptgan_jax as gg


class Writer:
    """A generator of one's own: an object with the functions that `gg.GeneratorProtocol` names."""

    def __init__(self, inner: gg.Generator) -> None:
        self.inner = inner
        self.vocabulary = inner.vocabulary
        self.logits = inner.logits

    def init(self, key: jax.Array, batch: gg.Batch) -> gg.Params:
        return self.inner.init(key, batch)

    def hidden(self, params: gg.Params, batch: gg.Batch) -> jax.Array:
        return self.inner.hidden(params, batch)

    def prefill(
        self, params: gg.Params, prompt: jax.Array, prompt_mask: jax.Array, length: int
    ) -> tuple[jax.Array, gg.PyTree]:
        return self.inner.prefill(params, prompt, prompt_mask, length)

    def decode(self, params: gg.Params, cache: gg.PyTree, tokens: jax.Array) -> tuple[jax.Array, gg.PyTree]:
        return self.inner.decode(params, cache, tokens)

    def repeat(self, cache: gg.PyTree, count: int) -> gg.PyTree:
        return self.inner.repeat(cache, count)


class Mean:
    """REINFORCE with the batch's mean as baseline, an estimator of one's own."""

    def init(self, width: int) -> None:
        return None

    def advantages(self, state: None, experience: gg.Experience) -> tuple[jax.Array, None, dict[str, jax.Array]]:
        return experience.rewards - experience.rewards.mean(), None, {}

    def loss(self, log_probs: jax.Array, experience: gg.Experience, advantages: jax.Array) -> jax.Array:
        return -(advantages * log_probs).sum() / log_probs.shape[0]


class Towards:
    """Cross-entropy with the mediator's next tokens, an estimator of one's own."""

    def init(self, width: int) -> None:
        return None

    def loss(
        self, logits: jax.Array, mediator: jax.Array, tokens: jax.Array, mask: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        nats = -(jax.nn.softmax(mediator) * jax.nn.log_softmax(logits)).sum(axis=-1)
        return jnp.where(mask, nats, 0.0).sum() / mask.shape[0], {}


class Taught:
    """A teacher's divergence, at an end of its own."""

    beta = 0.3
    on_policy = 0.5

    def init(self, width: int) -> None:
        return None


def shortness(written: gg.Sample, batch: gg.Batch) -> jax.Array:
    return -written.mask.sum(axis=1).astype(jnp.float32)


def followed(guidance: gg.Guidance) -> jax.Array:
    return guidance.followed


def texts() -> tuple[gg.data.Tokenizer | gg.data.IdTokenizer, gg.data.TokenisedSplit, gg.Batch]:
    corpus: gg.data.Corpus = gg.data.load_corpus(gg.data.GrammarData(train_size=50))
    tokenizer = gg.data.fit_tokenizer(gg.data.WordTokenizer(), corpus)
    train = gg.data.encode_split(corpus.train, tokenizer, max_length=12)
    batch = gg.data.batch_at(train, seed=0, position=0, batch_size=4)
    print(next(gg.data.evaluation_batches(train, 4)).target.shape, tokenizer.decode(train.targets[0].tolist()))
    return tokenizer, train, batch


def players(vocabulary: gg.Vocabulary) -> tuple[gg.Generator, gg.Discriminator]:
    generators = [
        gg.build_generator(gg.LstmConfig(hidden=8, embedding=8), vocabulary),
        gg.build_generator(gg.RelationalConfig(slots=2, head_width=4), vocabulary),
        gg.build_generator(gg.LeakganConfig(units=4, leaked=gg.CnnConfig(dropout=0.0)), vocabulary),
        gg.build_generator(gg.TransformerConfig(layers=1, width=8, heads=2, lora=gg.LoraConfig()), vocabulary),
    ]
    mine: gg.GeneratorProtocol = Writer(generators[0])
    configs = gg.LinearConfig(), gg.MlpConfig(), gg.CnnConfig(), gg.TransformerDiscriminatorConfig(layers=1, width=8)
    judges = [gg.build_discriminator(config, vocabulary) for config in configs]
    judge: gg.Discriminator | gg.DiscriminatorProtocol = judges[0]
    return gg.generator_of(mine), gg.discriminator_of(judge)


def estimators() -> list[gg.Estimator]:
    baselines = gg.moving_average(0.9), gg.learned_value(), gg.leave_one_out(), gg.no_baseline()
    score: list[gg.PolicyGradient] = [gg.reinforce(0.9, baseline) for baseline in baselines]
    score += [gg.rloo(), gg.ppo(), gg.grpo(), gg.rollout(), gg.penalised(), gg.guided(), gg.maligan()]
    score += [gg.weighted_likelihood()]
    matched: gg.PolicyGradient = gg.feature_matching(samples=3)
    matching: gg.Matching | None = matched.matching
    print(matching and matching.depths)
    relaxed: gg.Pathwise = gg.gumbel()
    mediated: gg.Mediated = gg.cot(future=True)
    alone: list[gg.SelfPlay] = [gg.spin(), gg.dgsan(), gg.jsdgan(texts=50), gg.self_critic("hinge")]
    taught: gg.Distillation = gg.distill(beta=0.1)
    mine: gg.PolicyGradientProtocol = Mean()
    own: list[gg.EstimatorProtocol | gg.PathwiseProtocol | gg.SelfPlayProtocol] = [mine]
    others: tuple[gg.MediatedProtocol, gg.DistillationProtocol] = Towards(), Taught()
    own += others
    return [*score, matched, relaxed, mediated, *alone, taught, *map(gg.estimator_of, own)]


def train(rate: gg.Number, batch: gg.Batch, generator: gg.Generator, discriminator: gg.Discriminator) -> gg.GanState:
    losses = gg.hinge, gg.relativistic, gg.relativistic_tie, gg.wasserstein, gg.non_saturating
    gan: gg.Gan = gg.gan_from(
        generator,
        discriminator,
        estimator=Mean(),
        pair_loss=losses[-1],
        reward=gg.rewards.relative(gg.rewards.logit),
        kl_weight=0.1 * rate,
        demonstrations=gg.Demonstrations(share=0.1, reward=1.0, steps=10),
        start=generator.init(jax.random.key(1), batch),
        text_rewards=[gg.TextReward("shortness", shortness, 0.1, gg.linear_schedule(1.0, 0.0, 10))],
        generator_optimizer=optax.adam(rate),
        discriminator_optimizer=optax.adam(1e-3),
    )
    state = gan.init(jax.random.key(0), batch)
    history: list[Mapping[str, jax.Array]] = []
    for step in (gan.likelihood_step, gg.skipping(gan).adversarial_step, gg.checked(gan.adversarial_step, VOCABULARY)):
        state, metrics = step(state, batch)
        history.append(metrics)
    print(gg.adversarial_alarms(history), gg.likelihood_alarms(history))
    player: gg.Player = state.generator
    print(gg.parameter_count(player.params), gg.discrimination.pair_accuracy(jnp.ones(2), jnp.zeros(2)))
    return state


def write(state: gg.GanState, batch: gg.Batch, generator: gg.Generator, discriminator: gg.Discriminator) -> None:
    params, scorer = state.generator.params, state.discriminator.params
    likeliest = jax.lax.top_k(jax.nn.log_softmax(generator.logits(params, batch)), 2)
    taught: gg.Batch = batch.replace(top_k=gg.TopK(ids=likeliest[1], log_probs=likeliest[0]))
    print(taught.top_k and taught.top_k.ids.shape)
    written: gg.Sample = gg.sample(generator, params, jax.random.key(1), batch.prompt, batch.prompt_mask, length=12)
    scores: gg.Scores = discriminator.scores(scorer, batch)
    print(gg.log_probs(generator, params, batch).sum(), scores.sequence, written.tokens.shape)
    model: gg.Residual = gg.residual(generator, discriminator)
    log_z, error = model.log_z(params, scorer, jax.random.key(2), 8, length=12)
    print(model.log_probs(params, scorer, batch, log_z), error)
    chosen = gg.resample(
        generator,
        params,
        lambda tokens, mask: model.energy(scorer, tokens, mask),
        jax.random.key(3),
        batch.prompt,
        batch.prompt_mask,
        12,
        candidates=2,
    )
    best = gg.best_of(generator, params, jax.random.key(5), batch.prompt, batch.prompt_mask, 12, candidates=2)
    print(best.tokens)
    values = gg.rollout_values(
        generator,
        params,
        jax.random.key(4),
        batch.prompt,
        batch.prompt_mask,
        chosen,
        2,
        lambda key, tokens, mask, shared: mask.sum(axis=1).astype(jnp.float32),
    )
    penalty = gg.penalties.zero_centred(lambda x: x.sum(axis=(1, 2)), jnp.ones((2, 3, 4)))
    print(values.shape, penalty, gg.host_reward, gg.merged, gg.share_trunk, gg.in_windows(discriminator, 4))


def measure() -> None:
    words = [["a", "b", "c"], ["a", "b", "d"]]
    estimate: gg.metrics.Estimate = gg.metrics.mean_of(np.ones(3))
    print(gg.metrics.bleu(words, words)[2].mean(), gg.metrics.self_bleu(words), estimate)
    vectors = np.random.default_rng(0).normal(size=(50, 3))
    print(gg.metrics.frechet_distance(vectors, vectors), gg.metrics.mauve(vectors, vectors))


def keep(folder: Path, generator: gg.Generator, params: gg.Params, tokenizer: gg.data.Tokenizer) -> gg.Loaded:
    gg.save(folder, generator, params, tokenizer)
    return gg.load(f"hf:{folder}")


VOCABULARY = gg.Vocabulary(size=20)
print(gg.__version__, gg.Game, gg.unconditional_batch(jnp.ones((2, 3), jnp.int32), VOCABULARY))
