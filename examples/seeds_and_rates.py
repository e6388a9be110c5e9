"""Five seeds times three learning rates of a whole training, with all its phases, as one compiled program.

    python examples/seeds_and_rates.py --likelihood 4000 --warmup 800 --adversarial 100   # as configs/quickstart.yaml

The numbers of a gan may be traced, so a training is a function of a key and a rate, and `jax.vmap` maps it over both.
Parts that do not depend on the rate (initial parameters, likelihood training, the discriminator's warm-up) are computed
once per seed, as the inner `vmap` does not batch them. Weights, discounts and temperatures can be mapped in the same
way."""

import argparse
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import gptgan_jax as gg

BLOCKS = {"norm": "rms", "activation": "swiglu", "positions": "rotary", "qkv_bias": False, "bias": False}
Train = Callable[[jax.Array, gg.Number], dict[str, jax.Array]]


class Steps(NamedTuple):
    """The length of a training.

    Attributes:
        likelihood, warmup, adversarial: steps of each phase.
        batch: texts per step of the first two.
        adversarial_batch: texts per step of the last.
    """

    likelihood: int = 1000
    warmup: int = 200
    adversarial: int = 50
    batch: int = 64
    adversarial_batch: int = 256


def training(
    generator: gg.Generator, discriminator: gg.Discriminator, texts: jax.Array, held_out: gg.Batch, steps: Steps
) -> Train:
    """(key, rate) -> the results of a training from that key, with that learning rate in the adversarial phase.

    Args:
        generator, discriminator: the players.
        texts: int32 [N, T], the training texts, on the device, where the program makes its own batches.
        held_out: a batch of held-out texts.
        steps: the length of the training.

    Returns:
        float32 []: "likelihood" and "adversarial", nats per token of held-out text after that phase; "kl", nats per
        token between the two, and "reward", both of the last step.
    """

    def drawn(key: jax.Array, count: int) -> gg.Batch:
        rows = jax.random.randint(key, (count,), 0, len(texts))
        return gg.unconditional_batch(texts[rows], generator.vocabulary)

    def nats(state: gg.GanState) -> jax.Array:
        log_probs = gg.log_probs(generator, state.generator.params, held_out)
        return -log_probs.sum() / held_out.target_mask.sum()

    def train(key: jax.Array, rate: gg.Number) -> dict[str, jax.Array]:
        key_init, *keys = jax.random.split(key, 4)
        fast = gg.gan_from(
            generator, discriminator, generator_optimizer=optax.adam(3e-3), discriminator_optimizer=optax.adam(1e-3)
        )
        slow = gg.gan_from(
            generator,
            discriminator,
            estimator=gg.reinforce(baseline=gg.leave_one_out()),
            reward=gg.rewards.logit,
            dense=False,
            kl_weight=1.0,
            generator_optimizer=optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate)),
            discriminator_optimizer=optax.adam(1e-4),
        )

        def repeated(step, state, key, count, batch):  # type: ignore[no-untyped-def]
            return jax.lax.scan(lambda state, key: step(state, drawn(key, batch)), state, jax.random.split(key, count))

        state, _ = repeated(fast.likelihood_step, fast.init(key_init, held_out), keys[0], steps.likelihood, steps.batch)
        before = nats(state)
        state, _ = repeated(fast.discriminator_step, fast.begin(state), keys[1], steps.warmup, steps.batch)
        state, metrics = repeated(
            slow.adversarial_step, slow.begin(state), keys[2], steps.adversarial, steps.adversarial_batch
        )
        last = {name: metrics[name][-1] for name in ("kl", "reward")}
        return {"likelihood": before, "adversarial": nats(state), **last}

    return train


def at_once(train: Train) -> Train:
    """The same for all pairs of keys [S] and rates [R], as one program: its results are [S, R]."""
    return jax.jit(jax.vmap(jax.vmap(train, (None, 0)), (0, None)))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-4, 5e-4, 2e-3])
    for name in ("likelihood", "warmup", "adversarial"):
        parser.add_argument(f"--{name}", type=int, default=Steps._field_defaults[name], help="steps of the phase")
    options = parser.parse_args()
    steps = Steps(options.likelihood, options.warmup, options.adversarial)
    corpus = gg.data.load_corpus(gg.data.GrammarData(train_size=20000, valid_size=500))
    tokenizer = gg.data.fit_tokenizer(gg.data.WordTokenizer(), corpus)
    texts, held_out = (
        next(gg.data.evaluation_batches(gg.data.encode_split(split, tokenizer, max_length=25), len(split)))
        for split in (corpus.train, corpus.valid)
    )
    generator = gg.build_generator(
        gg.TransformerConfig(layers=1, width=16, heads=2, mlp_width=32, **BLOCKS), tokenizer.vocabulary
    )
    discriminator = gg.build_discriminator(
        gg.TransformerDiscriminatorConfig(layers=2, width=96, heads=4, mlp_width=192, **BLOCKS), tokenizer.vocabulary
    )
    train = at_once(training(generator, discriminator, jnp.asarray(texts.target), jax.device_put(held_out), steps))
    figures = train(jax.random.split(jax.random.key(0), options.seeds), jnp.array(options.rates))
    changes = np.asarray(figures["adversarial"] - figures["likelihood"])
    print(f"nats per token of held-out text, after likelihood training {np.mean(figures['likelihood']):.3f}")
    for i, rate in enumerate(options.rates):
        mean, error = changes[:, i].mean(), changes[:, i].std(ddof=1) / np.sqrt(options.seeds)
        kl, reward = (float(figures[name][:, i].mean()) for name in ("kl", "reward"))
        print(f"rate {rate:g}: {mean:+.4f} ± {error:.4f} over {options.seeds} seeds, KL {kl:.4f}, reward {reward:+.2f}")


if __name__ == "__main__":
    main()
