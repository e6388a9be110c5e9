"""What a discriminator adds to a generator at equal likelihood, on a grammar whose probabilities are exact.

    python examples/policy_improvement.py

A GPT of 16,160 parameters is too small for its source, the built-in grammar of English. configs/recommended.yaml claims
that a larger discriminator knows something about the source that likelihood training of the generator did not use:
moved towards p(x) exp(D(x)) / Z (Deng et al. 2020, https://arxiv.org/abs/2004.11714), by policy gradients or by
resampling, the generator generates more grammatical sentences *at equal likelihood*. A lower temperature also makes
sentences more grammatical, but costs likelihood. Every model is therefore swept over temperatures and compared with the
likelihood model at equal held-out NLL. The control's reward is constant. A parser decides what is grammatical.
"""

import argparse

import jax
import numpy as np
from small_generator import (
    GRAMMAR,
    TEMPERATURES,
    VOCABULARY,
    encoded,
    gain,
    gan,
    half_interval,
    measured,
    trained,
)

import gptgan_jax as gg


def main():
    parser = argparse.ArgumentParser(description="What a discriminator adds to a generator at equal likelihood.")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, nargs=3, default=(5000, 1000, 200), help="of the three phases")
    parser.add_argument("--count", type=int, default=1000, help="samples per model and temperature, and test sentences")
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
    print(f"\n(above: nats per token and share of grammatical sentences, at the temperatures {TEMPERATURES})")
    print("More grammatical than the likelihood model at equal NLL, mean and 95 % interval over seeds:")
    for name, found in gains.items():
        print(f"  {name:30} {np.mean(found):+.3f} ± {half_interval(found):.3f}")


if __name__ == "__main__":
    main()
