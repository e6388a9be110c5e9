"""The arithmetic of a step, part by part: the passes of each network over its texts."""

import jax

from gptgan_jax.algorithms.seqgan import STRETCHES
from gptgan_jax.compiling.networks import (
    Work,
    discriminator_behind,
    discriminator_ends,
    discriminator_forward,
    discriminator_next_tokens,
    generator_forward,
    generator_sampling,
    relaxed_embedding,
)
from gptgan_jax.config import LIKELIHOOD, Config, Phase
from gptgan_jax.config.estimators import build_estimator
from gptgan_jax.gradients.families import Distillation, Mediated, PolicyGradient, SelfPlay, matching_of
from gptgan_jax.models.discriminator_networks import CnnConfig, DiscriminatorConfig, TransformerDiscriminatorConfig
from gptgan_jax.models.discriminators import has_dropout, surprisal_of
from gptgan_jax.models.generators import GeneratorConfig
from gptgan_jax.runs.trained import example_batch
from gptgan_jax.sampling.rollouts import stretches_of
from gptgan_jax.types import Vocabulary

Parts = dict[str, Work]


def step_work(config: Config, phase: Phase, vocab_size: int, prompt: int) -> Parts:
    """The work of one step of a phase, over all devices, by part.

    Texts count at their full length, like the arrays. Optimisers, which have no matrix products, and the power
    iterations of spectral normalisation are not counted.

    Args:
        config: of the run.
        phase: of the step.
        vocab_size: V.
        prompt: P, tokens of a prompt, BOS included.
    """
    return _Step(config, phase, vocab_size, prompt).parts()


def sampler_work(config: Config, vocab_size: int, prompt: int, rows: int) -> Parts:
    """The work of sampling `rows` texts of the full length, over all devices."""
    return {"sampling": generator_sampling(config.generator, vocab_size, rows, prompt, config.data.max_length)}


class _Step:
    """The sizes of a step, shared by its parts."""

    def __init__(self, config: Config, phase: Phase, vocab_size: int, prompt: int) -> None:
        self.config, self.phase, self.vocab_size, self.prompt = config, phase, vocab_size, prompt
        self.target = config.data.max_length
        self.rows = config.batch_size(phase)
        self.estimator = build_estimator(config.objective.estimator, config.steps(phase))
        self.samples = self.estimator.samples if isinstance(self.estimator, PolicyGradient) else 1
        self.real = self.rows, self.prompt, self.target
        if phase == "adversarial" and (matching := matching_of(self.estimator)) is not None:
            # Stretches of a text are answers of their own, each to everything before it.
            example = example_batch(config, Vocabulary(vocab_size), config.conditional)
            cut = jax.eval_shape(matching.stretches, example)
            self.rows *= cut.target.shape[0]
            self.prompt += cut.prompt.shape[1] - example.prompt.shape[1]
            self.target = cut.target.shape[1]
        self.fakes = self.rows * self.samples
        # A prompt shared by several texts is read once; see `decoding.reads_once`.
        shares = self.samples > 1 and self.prompt > 1 and not getattr(config.generator, "reach", None)
        self.once = self.rows if shares else None

    def parts(self) -> Parts:
        if self.phase in LIKELIHOOD:
            return {"G forward and backward": self.learning(self.generator(self.rows), self.config.generator)}
        if self.phase == "warmup":
            return self.discriminating(1)
        if isinstance(self.estimator, SelfPlay):
            if not self.estimator.writes:  # and no reference is read either
                return {"G forward and backward": self.learning(self.generator(self.rows), self.config.generator)}
            return {
                "sampling": self.sampling(),
                "reference log-probs": self.generator(self.rows + self.fakes),
                "G forward and backward": self.learning(self.generator(self.rows + self.fakes), self.config.generator),
            }
        if isinstance(self.estimator, Distillation):  # without the teacher, whose network is not the config's
            parts = {"sampling": self.sampling()} if self.estimator.on_policy else {}
            return parts | {"G forward and backward": self.learning(self.generator(self.rows), self.config.generator)}
        if matching_of(self.estimator) is not None:
            # Hidden states after every token, the last included, without logits.
            sizes = self.rows + self.fakes, self.prompt, self.target + 1
            features = {"features by the frozen copy": generator_forward(self.config.generator, 0, *sizes)}
            return {"sampling": self.sampling()} | features | self.generating()
        return self.discriminating(self.config.adversarial.discriminator_updates) | self.generating()

    # ---- the two sides

    def discriminating(self, updates: int) -> Parts:
        """`updates` times, texts are sampled, and D is trained on them and scores them."""
        objective = self.config.objective
        if isinstance(self.estimator, Mediated):
            return {
                "sampling": updates * self.sampling(),
                "D's next tokens": updates * self.learning(self.next_tokens(2 * self.rows), self.config.discriminator),
            }
        network, drops = self.config.discriminator, has_dropout(self.config.discriminator)
        real, fake = self.discriminator(self.rows), self.discriminator(self.fakes)
        behind = fake  # after prompts that were read with the real texts
        asked = self.samples > 1 and self.prompt > 1 and not objective.window and surprisal_of(network) is None
        if asked and isinstance(network, TransformerDiscriminatorConfig) and not network.reach:
            behind = discriminator_behind(network, self.fakes, self.rows, self.prompt, self.target)
        parts = {
            "sampling": updates * self.sampling(),
            "D(real) forward and backward": updates * self.learning(real, network),
            "D(fake) forward and backward": updates
            * self.learning(fake if drops or objective.replay_size else behind, network),
        }
        if drops or objective.replay_size:
            parts["D scores"] = updates * (real + behind)  # otherwise from the training pass
        # A penalty differentiates a gradient by the embeddings: three times a pass with that gradient.
        penalised = self.rows * bool(objective.r1_weight) + self.fakes * bool(objective.r2_weight)
        penalised += self.rows * bool(objective.gradient_penalty_weight)
        if penalised:
            parts["penalties"] = updates * 3 * self.discriminator(penalised).with_input_gradient()
        if objective.next_token_weight and isinstance(network, TransformerDiscriminatorConfig):
            parts["D's next tokens"] = updates * self.learning(self.next_tokens(self.rows), network)
        return parts

    def next_tokens(self, rows: int) -> Work:
        """A Transformer discriminator's next-token logits."""
        network = self.config.discriminator
        assert isinstance(network, TransformerDiscriminatorConfig)
        return discriminator_next_tokens(network, self.vocab_size, rows, self.prompt + self.target, self.target)

    def generating(self) -> Parts:
        """The update of G."""
        objective, estimator = self.config.objective, self.estimator
        forward = learned = self.generator(self.fakes, self.once)
        epochs = estimator.epochs if isinstance(estimator, PolicyGradient) else 1
        if epochs * (estimator.minibatches if isinstance(estimator, PolicyGradient) else 1) > 1:
            learned = self.generator(self.fakes)  # in an order in which a prompt's texts are not adjacent
        parts: Parts = {}
        if isinstance(estimator, PolicyGradient):
            if self.needs_log_probs():
                parts["G log-probs"] = forward
            if getattr(objective.estimator, "baseline", None) == "learned":
                parts["G hidden states"] = forward
            if estimator.rollouts:
                parts |= self.rollouts(estimator.rollouts)
        elif isinstance(estimator, Mediated):
            parts["D's next tokens of what was written"] = self.next_tokens(self.fakes)
        else:
            relaxed = relaxed_embedding(self.config.discriminator, self.vocab_size, self.fakes, self.target)
            parts["D by relaxed tokens"] = (self.discriminator(self.fakes) + relaxed).with_input_gradient()
        parts["G forward and backward"] = epochs * self.learning(learned, self.config.generator)
        if objective.likelihood_weight:
            real = generator_forward(self.config.generator, self.vocab_size, *self.real)
            parts["G on real texts"] = epochs * self.learning(real, self.config.generator)
        if objective.kl_weight:
            # With the penalty in the reward, there is one more pass of the reference before the updates.
            parts["reference"] = epochs * learned + float(objective.kl_estimator == "reward") * forward
        return parts

    def needs_log_probs(self) -> bool:
        """Whether the log-probabilities before the updates are used; XLA drops unused ones."""
        return hasattr(self.config.objective.estimator, "clip") or (
            bool(self.config.objective.kl_weight) and self.config.objective.kl_estimator == "reward"
        )

    def rollouts(self, count: int) -> Parts:
        """Every prefix is continued `count` times, and each continuation is scored."""
        rows = self.fakes * count
        network, vocab_size, whole = self.config.generator, self.vocab_size, self.prompt
        steps = generator_sampling(network, vocab_size, rows, whole, self.target)
        start = generator_sampling(network, vocab_size, rows, whole, 1)
        # From prefixes of 1 to T - 1 tokens: T - 2 decoding steps for the first, none for the last.
        continuing = max(self.target - 2, 0) / 2 * (steps + -1.0 * start)
        known = generator_sampling(network, vocab_size, self.fakes, whole, self.target)
        scorer = self.config.discriminator
        scored = self.target * self.discriminator(rows)
        if isinstance(scorer, CnnConfig):
            # The shared tokens of a stretch's continuations are read once.
            begun = [(len(part), int(part[0]) + 1) for part in stretches_of(self.target, STRETCHES) if len(part)]
            # The texts themselves are read, and scored `count` times like the others.
            begun.append((1, self.target))
            scored = self.discriminator(self.fakes)
            for times, shared in begun:
                ends = discriminator_ends(scorer, rows, count, self.prompt + shared, self.target - shared)
                scored += times * ends
        return {"rollouts written": continuing + known, "D scores rollouts": scored}

    # ---- one pass

    def learning(self, forward: Work, network: GeneratorConfig | DiscriminatorConfig) -> Work:
        """A pass and its gradient; with adapters the weights have none. The thin adapters are not counted."""
        lora = getattr(network, "lora", None)
        return forward.with_input_gradient() if lora is not None and lora.rank else forward.with_backward()

    def generator(self, rows: int, prompts: int | None = None) -> Work:
        return generator_forward(self.config.generator, self.vocab_size, rows, self.prompt, self.target, prompts)

    def sampling(self) -> Work:
        network, rows = self.config.generator, self.fakes
        return generator_sampling(network, self.vocab_size, rows, self.prompt, self.target, self.once)

    def discriminator(self, rows: int) -> Work:
        whole = not self.config.objective.dense
        return discriminator_forward(self.config.discriminator, rows, self.prompt + self.target, whole)
