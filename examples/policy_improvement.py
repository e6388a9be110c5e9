"""What a discriminator adds to a generator at equal likelihood, on a grammar whose probabilities are exact.

    python examples/policy_improvement.py

A GPT of 16,160 parameters is too small for its source, the built-in grammar of English. The claim of
configs/recommended.yaml: a larger discriminator knows something of the source that the generator's likelihood training
left unused. Pulled towards p(x) exp(D(x)) / Z (Deng et al. 2020, https://arxiv.org/abs/2004.11714), by policy gradients
or by resampling, the generator writes more grammatical sentences *at equal likelihood*. A colder temperature makes
sentences more grammatical too, and pays for it in likelihood: so every model is swept over temperatures, and compared
with the likelihood model where the held-out NLL is the same. The control's reward is constant. A parser decides.
"""

import argparse
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import stats

import gptgan_jax as gg
from gptgan_jax.sources.grammar import english_scenes

GRAMMAR = english_scenes()
WORDS = ["<pad>", "<bos>", "<eos>", *GRAMMAR.words]
VOCABULARY, LENGTH = gg.Vocabulary(size=len(WORDS)), 25
TEMPERATURES = (1.0, 0.85, 0.7)
BLOCKS = {"norm": "rms", "activation": "swiglu", "positions": "rotary", "qkv_bias": False, "bias": False}
# The next-token loss is the discriminator's own: by it, it knows the language before it judges.
OBJECTIVE = {"dense": False, "kl_weight": 1.0, "kl_estimator": "reward", "next_token_weight": 1.0}
GENERATOR = gg.build_generator(gg.TransformerConfig(layers=1, width=16, heads=2, mlp_width=32, **BLOCKS), VOCABULARY)
DISCRIMINATOR = gg.build_discriminator(
    gg.TransformerDiscriminatorConfig(layers=2, width=96, heads=4, mlp_width=192, **BLOCKS), VOCABULARY
)


def gan(rate, discriminator_rate, steps, reward=gg.rewards.logit):
    """Whole texts, each against the others of its batch; with KL weight 1 the optimum is p(x) exp(D(x)) / Z."""

    def adam(peak):
        schedule = optax.warmup_cosine_decay_schedule(peak / 10, peak, steps // 10, steps, peak / 10)
        return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))

    return gg.gan_from(
        GENERATOR,
        DISCRIMINATOR,
        estimator=gg.reinforce(baseline=gg.leave_one_out()),
        reward=reward,
        **OBJECTIVE,
        generator_optimizer=adam(rate),
        discriminator_optimizer=adam(discriminator_rate),
    )


def encoded(sentences):
    """Token ids int32 [N, T] of sentences, each with EOS behind it."""
    ids, rows = {word: i for i, word in enumerate(WORDS)}, np.zeros((len(sentences), LENGTH), np.int32)
    for row, words in zip(rows, map(str.split, sentences), strict=True):
        row[: len(words) + 1] = [*(ids[word] for word in words), VOCABULARY.eos_id]
    return rows


def trained(step, state, texts, steps, rows, rng):
    """A state after so many steps on batches of the texts."""
    step = jax.jit(step)
    for _ in range(steps):
        state, _ = step(state, gg.unconditional_batch(texts[rng.integers(len(texts), size=rows)], VOCABULARY))
    return state


@jax.jit
def energy(scorer, tokens, mask):
    """The discriminator's logit of whole texts, float32 [R]."""
    return DISCRIMINATOR.scores(scorer, gg.unconditional_batch(tokens, VOCABULARY).replace(target_mask=mask)).sequence


@partial(jax.jit, static_argnames=("count", "candidates"))
def written(params, scorer, key, temperature, count, candidates=1):
    """Texts of the generator, or each the one that exp(D) chose from some candidates."""
    where = jnp.full((count, 1), VOCABULARY.bos_id), jnp.ones((count, 1), bool), LENGTH
    if candidates == 1:
        return gg.sample(GENERATOR, params, key, *where, temperature)
    return gg.resample(GENERATOR, params, partial(energy, scorer), key, *where, candidates, temperature)


@jax.jit
def text_nats(params, batch, temperature):
    """Negative log-likelihood of each text, float32 [B]."""
    return -gg.log_probs(GENERATOR, params, batch, temperature).sum(axis=1)


def measured(params, scorer, key, test, temperature, count):
    """(nats a token of test text, share of grammatical samples); with a scorer, of the model resampled by it."""
    nats, candidates = text_nats(params, test, temperature), 1
    if scorer is not None:
        candidates, proposals = 8, written(params, None, jax.random.fold_in(key, 1), temperature, 4 * count)
        log_z = jax.nn.logsumexp(energy(scorer, proposals.tokens, proposals.mask)) - jnp.log(4 * count)
        nats += log_z - energy(scorer, test.target, test.target_mask)
    tokens = np.asarray(written(params, scorer, key, temperature, count, candidates).tokens)
    sentences = [" ".join(WORDS[i] for i in row[row > 2]) for row in tokens]
    grammatical = [GRAMMAR.log_prob(sentence) > -np.inf for sentence in sentences]
    return float(nats.sum() / test.target_mask.sum()), float(np.mean(grammatical))


def gain(ours, theirs):
    """Mean difference of grammatical shares where both sweeps reach an NLL; NaN where they share none."""
    ours, theirs = (np.array(sorted(points)) for points in (ours, theirs))
    grid = np.linspace(max(ours[0, 0], theirs[0, 0]), min(ours[-1, 0], theirs[-1, 0]), 50)
    return np.mean(np.interp(grid, *ours.T) - np.interp(grid, *theirs.T)) if grid[0] < grid[-1] else np.nan


def main():
    parser = argparse.ArgumentParser(description="What a discriminator adds to a generator at equal likelihood.")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, nargs=3, default=(5000, 1000, 200), help="of the three phases")
    parser.add_argument("--count", type=int, default=1000, help="samples a model and temperature, and test sentences")
    options = parser.parse_args()
    likelihood, warmup, adversarial = options.steps
    texts = encoded(GRAMMAR.sample(np.random.default_rng(0), 100_000))
    test = gg.unconditional_batch(encoded(GRAMMAR.sample(np.random.default_rng(1), options.count)), VOCABULARY)
    first, second, third = gan(3e-3, 1e-3, likelihood), gan(3e-3, 1e-3, warmup), gan(5e-4, 1e-4, adversarial)
    control = gan(5e-4, 1e-4, adversarial, reward=gg.rewards.constant(1.0))
    gains = {}
    for seed in range(1, options.seeds + 1):
        rng, key = np.random.default_rng(seed), jax.random.key(seed)
        state = first.init(key, gg.unconditional_batch(texts[:64], VOCABULARY))
        state = trained(first.likelihood_step, state, texts, likelihood, 64, rng)
        state = trained(second.discriminator_step, second.begin(state), texts, warmup, 64, rng)
        params, scorer, sweeps = state.generator.params, state.discriminator.params, {}
        models = {"likelihood": (params, None), "resampled by the discriminator": (params, scorer)}
        for name, step, begun in (
            ("continued likelihood", third.likelihood_step, third.begin(state)),
            ("policy gradients", third.adversarial_step, third.begin(state)),
            ("control: constant reward", control.adversarial_step, control.begin(state)),
        ):
            models[name] = trained(step, begun, texts, adversarial, 256, rng).generator.params, None
        for name, model in models.items():
            sweeps[name] = [measured(*model, key, test, temperature, options.count) for temperature in TEMPERATURES]
            gains.setdefault(name, []).append(gain(sweeps[name], sweeps["likelihood"]))
            print(f"seed {seed}  {name:30}", *(f" {nll:.3f} {share:.3f}" for nll, share in sweeps[name]), flush=True)
    print(f"\n(above: nats a token and share of grammatical sentences, at the temperatures {TEMPERATURES})")
    print("More grammatical than the likelihood model at equal NLL, mean and 95 % interval over seeds:")
    for name, found in gains.items():
        half = stats.t.ppf(0.975, len(found) - 1) * stats.sem(found) if len(found) > 1 else np.nan
        print(f"  {name:30} {np.mean(found):+.3f} ± {half:.3f}")


if __name__ == "__main__":
    main()
