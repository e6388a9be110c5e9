"""Does a generator keep the gain of resampling by a discriminator if it is trained on the resampled text?

    python examples/self_distillation.py                # seeds 31 to 35, in turn; --seeds 0 for another

The residual model q(x) = p(x) exp(D(x)) / Z (Deng et al. 2020, https://arxiv.org/abs/2004.11714) improves on its
generator p, but generates and scores 8 texts for each one. In a round of self-distillation the discriminator learns to
distinguish the generator's text from real text (it is kept from round to round; --discriminator fresh starts a new
one), texts are sampled from q, and the generator is trained further on them by likelihood. That step has no real text;
--real mixes in a share. q is closer to the source than p is. But p was already as close to it as likelihood training
could bring it, and likelihood training on q's text is nearly the same task: whether it helps is not known beforehand.

Everything is measured as in policy_improvement.py, with each model compared to the temperature sweep of its own seed's
likelihood model. Resampled rows cost 8 texts and 8 scores per text, all others one text and no score. Controls:
likelihood training for as many updates on real text; and the same rounds with a constant energy, where choosing among
candidates is the same as taking the first one, so the generator is trained on its own text.

Settings, fixed before the seeds of the table were run: 4,000 likelihood steps of 64 sentences; a discriminator warm-up
of 1,200 steps of 32, and of 200 before each later round; three rounds of 20,000 texts, each with 80 steps of 256 at a
peak rate of 5e-4; 500 test sentences, and as many samples at each temperature. On seed 0, 100 steps on 6,000 texts had
raised the NLL by 0.015 at a rate of 1e-3, and by 0.004 at 3e-4: too few texts.
"""

import argparse
import time

import jax
import numpy as np
from small_generator import (
    GRAMMAR,
    TEMPERATURES,
    batch_of,
    encoded,
    gain,
    gan,
    half_interval,
    measured,
    trained,
    written,
)

COLUMNS = ["held-out NLL", "forward KL", *(f"grammatical, T={t}" for t in TEMPERATURES), "gain at equal NLL"]


def drawn(params, scorer, key, count, at_once):
    """Texts int32 [count, T] of the residual model; without a scorer the generator's own, as with a constant energy."""
    keys = jax.random.split(key, -(-count // at_once))
    texts = [np.asarray(written(params, scorer, one, 1.0, at_once).tokens) for one in keys]
    return np.concatenate(texts)[:count]


def models_of(seed, texts, gans, options):
    """Yields (name, generator's parameters, scorer or None) of one seed's models, each as soon as it is trained."""
    (likelihood, warm, warm_again, learn), (first, warmup, later, learning) = gans, options.steps
    rng, key, some = np.random.default_rng(seed), jax.random.key(seed), batch_of(texts[:64])

    def judged(state, turn):
        """The state with a discriminator trained against its generator."""
        if turn == 0 or options.discriminator == "fresh":
            anew = likelihood.init(jax.random.fold_in(key, turn), some).discriminator
            state = warm.begin(state.replace(discriminator=anew))
            return trained(warm.discriminator_step, state, texts, warmup, 32, rng)
        return trained(warm_again.discriminator_step, warm_again.begin(state), texts, later, 32, rng)

    def learned(state, scorer, turn):
        """The state with the generator trained on its own texts, resampled by the scorer."""
        key_write = jax.random.fold_in(jax.random.fold_in(key, 100), turn)
        own = drawn(state.generator.params, scorer, key_write, options.texts, options.count)
        real = int(options.real * len(own))
        own[:real] = texts[rng.integers(len(texts), size=real)]
        return trained(learn.likelihood_step, learn.begin(state), own, learning, 256, rng)

    state = trained(likelihood.likelihood_step, likelihood.init(key, some), texts, first, 64, rng)
    unchosen, continued, name = state, state, "likelihood"
    yield name, state.generator.params, None
    for turn in range(options.rounds + 1):
        state = judged(state, turn)
        yield f"{name}, resampled", state.generator.params, state.discriminator.params
        if turn < options.rounds:
            name = f"round {turn + 1}"
            state, unchosen = learned(state, state.discriminator.params, turn), learned(unchosen, None, turn)
            continued = trained(learn.likelihood_step, learn.begin(continued), texts, learning, 256, rng)
            yield name, state.generator.params, None
            yield f"control: {name}, constant energy", unchosen.generator.params, None
    yield "continued likelihood", continued.generator.params, None


def compared(rounds):
    """Pairs of rows whose difference is reported for each seed."""
    names = ["likelihood", *(f"round {turn}" for turn in range(1, rounds + 1))]
    yield from zip(names[1:], names, strict=False)
    yield from ((f"{ours}, resampled", f"{theirs}, resampled") for ours, theirs in zip(names[1:], names, strict=False))
    others = "likelihood", "likelihood, resampled", "continued likelihood", f"control: {names[-1]}, constant energy"
    yield from ((names[-1], other) for other in others)


def table(columns, rows):
    """Prints name -> figures [seeds, columns] as Markdown: means with half a 95 % interval over seeds."""
    print(f"\n| | {' | '.join(columns)} |\n|---|{'---:|' * len(columns)}")
    for name, figures in rows.items():
        cells = [f"{np.mean(found):.3f} ± {half_interval(found):.3f}" for found in np.transpose(figures)]
        print(f"| {name} | {' | '.join(cells)} |")


def main():
    parser = argparse.ArgumentParser(description="Does a generator keep what resampling by a discriminator gains?")
    parser.add_argument("--seeds", type=int, nargs="+", default=(31, 32, 33, 34, 35))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, nargs=4, default=(4000, 1200, 200, 80), metavar=("L", "D", "D2", "S"))
    parser.add_argument("--texts", type=int, default=20_000, help="sampled from the residual model in each round")
    parser.add_argument("--rate", type=float, default=5e-4, help="peak learning rate of a round's likelihood steps")
    parser.add_argument("--real", type=float, default=0.0, help="share of real text among a round's, from 0 to 1")
    parser.add_argument("--discriminator", choices=("kept", "fresh"), default="kept", help="from round to round")
    parser.add_argument("--count", type=int, default=500, help="samples per model and temperature, and test sentences")
    options = parser.parse_args()
    if not 0 <= options.real <= 1 or min(options.rounds, options.texts, options.count) < 1:
        parser.error("--real should be from 0 to 1; --rounds, --texts and --count at least 1")
    texts = encoded(GRAMMAR.sample(np.random.default_rng(0), 100_000))
    sentences = GRAMMAR.sample(np.random.default_rng(1), options.count)
    test, found, base = batch_of(encoded(sentences)), {}, []
    tokens, entropy = int(test.target_mask.sum()) / len(sentences), -np.mean([*map(GRAMMAR.log_prob, sentences)])
    rates = (3e-3, 2e-3), (3e-3, 2e-3), (3e-3, 1e-3), (options.rate, 1e-3)  # of generator and discriminator
    gans = [gan(*pair, steps) for pair, steps in zip(rates, options.steps, strict=True)]
    for seed in options.seeds:
        for name, *model in models_of(seed, texts, gans, options):
            key = jax.random.key(1000 + seed)
            sweep = [measured(*model, key, test, temperature, options.count) for temperature in TEMPERATURES]
            base, nll = sweep if name == "likelihood" else base, sweep[0][0]
            figures = [nll, nll * tokens - entropy, *(share for _, share in sweep), gain(sweep, base)]
            found.setdefault(name, []).append(figures)
            print(f"seed {seed}  {name:34}", *(f"{figure:.3f}" for figure in figures), flush=True)
        print(f"seed {seed}  processor seconds so far: {time.process_time():.0f}", flush=True)
    print("\nNLL in nats per token, KL in nats per sentence; mean ± half a 95 % interval over seeds.")
    table(COLUMNS, found)
    print("\nDifference (first minus second), paired by seed:")
    pairs = compared(options.rounds)
    found = {name: np.array(figures)[:, [1, 2, 5]] for name, figures in found.items()}
    table(
        [COLUMNS[i] for i in (1, 2, 5)], {f"{ours} − {theirs}": found[ours] - found[theirs] for ours, theirs in pairs}
    )


if __name__ == "__main__":
    main()
