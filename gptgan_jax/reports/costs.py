"""The cost of training a model: recorded processor time, and updates and texts according to the configuration."""

from dataclasses import dataclass

from gptgan_jax.config import Config, Phase
from gptgan_jax.config.estimators import build_estimator
from gptgan_jax.gradients.families import Distillation, PolicyGradient, SelfPlay
from gptgan_jax.runs.timing import TrainingTime

# The phases that train each column of a sweep, besides the likelihood training that all but the first start from.
PHASES_OF: dict[str, tuple[Phase, ...]] = {
    "likelihood": ("likelihood",),
    "continued": ("continued",),
    "adversarial": ("warmup", "adversarial"),
    "residual": ("warmup",),
    "reranked": (),
}


@dataclass(frozen=True)
class Cost:
    """The costs of one model of one run, besides the likelihood training that it starts from.

    Attributes:
        processor_seconds: of all cores, including compilation and validation during training; None if not recorded.
        updates: of the generator's parameters.
        texts: generated in training; at most, if groups are resampled.
        continuations: of prefixes, generated to estimate the values of tokens.
    """

    processor_seconds: float | None
    updates: int
    texts: int
    continuations: int


def cost_of(config: Config, times: dict[str, TrainingTime], column: str) -> Cost:
    """The cost of a column of a run's sweep.

    Args:
        config: of the run.
        times: of its phases.
        column: "likelihood", "continued", "adversarial", "residual" or "reranked".
    """
    phases = [phase for phase in PHASES_OF[column] if config.steps(phase)]
    known = [times[phase].processor for phase in phases if phase in times]
    seconds = sum(known) if len(known) == len(phases) else None
    if column in ("likelihood", "continued", "reranked"):
        return Cost(seconds, sum(map(config.steps, phases)) // config.likelihood.optimizer.accumulate, 0, 0)
    adversarial, warmup = config.adversarial, config.warmup
    steps = adversarial.steps if column == "adversarial" else 0
    estimator = build_estimator(config.objective.estimator, adversarial.steps)
    samples, rollouts, passes = 1, 0, 1
    if isinstance(estimator, PolicyGradient):
        samples, rollouts, passes = estimator.samples, estimator.rollouts, estimator.epochs * estimator.minibatches
    a_step = adversarial.batch_size * samples
    on_real_texts = isinstance(estimator, Distillation) and not estimator.on_policy
    if on_real_texts or (isinstance(estimator, SelfPlay) and not estimator.writes):
        a_step = 0
    a_step *= 1 + config.objective.resample_groups  # at most
    return Cost(
        processor_seconds=seconds,
        updates=steps * passes // adversarial.generator_optimizer.accumulate,
        texts=steps * a_step * adversarial.discriminator_updates + warmup.steps * warmup.batch_size * samples,
        continuations=steps * a_step * rollouts * (config.data.max_length - 1),
    )
