"""Signs that training is going wrong, detected from the logged metrics."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from gptgan_jax.errors import suggests_names

WINDOW = 5
# The range of pair accuracy (real against generated) in which the discriminator is neither guessing nor certain.
HEALTHY_ACCURACY = (0.55, 0.95)
# How much larger the share of repeated 2-grams may be than in real text.
MORE_REPETITION = 0.1
# How far the training loss may be below the validation loss: as a share of it, and at least in nats per token.
WIDE_GAP, LEAST_GAP = 0.25, 0.1
LEARN_LESS = "raise generator.dropout or likelihood.optimizer.weight_decay, or give it more text"


@suggests_names
def adversarial_alarms(lines: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Signs of trouble in adversarial training, by a short name, each with advice; none before the fifth line.

    Args:
        lines: the metrics of `Gan.adversarial_step` so far, of every step or every few steps, oldest first, as numbers
            or scalar arrays. The means of the last five are checked. The advice names keys of a config;
            objective.kl_weight is the argument kl_weight of `gan_from`.

    Example:
        >>> list(gg.adversarial_alarms([{"discriminator_accuracy": 0.99}] * 5))
        ['accuracy near 1']
    """
    if len(lines) < WINDOW:
        return {}

    def recent(name: str) -> float | None:
        values = [line[name] for line in lines[-WINDOW:] if line.get(name) is not None]
        return fmean(values) if len(values) == WINDOW else None

    found = {}
    # With prompts, pairs of the same prompt show whether the reward is informative.
    accuracy = recent("prompt_accuracy") if "prompt_accuracy" in lines[-1] else recent("discriminator_accuracy")
    entropy, kl = recent("entropy"), recent("kl")
    length, real_length = recent("length"), recent("real_length")
    if accuracy is not None and accuracy > HEALTHY_ACCURACY[1]:
        found["accuracy near 1"] = (
            f"discriminator accuracy {accuracy:.2f}: it ranks nearly every pair correctly, so its reward says little; "
            "lower its learning rate or its size"
        )
    if accuracy is not None and accuracy < HEALTHY_ACCURACY[0]:
        found["accuracy near 1/2"] = (
            f"discriminator accuracy {accuracy:.2f}: no better than guessing, so its reward is noise; "
            "raise warmup.steps, its learning rate or its size"
        )
    first_entropy = lines[0].get("entropy")
    if entropy is not None and first_entropy and entropy < 0.6 * first_entropy:
        found["entropy"] = (
            f"entropy fell from {first_entropy:.2f} to {entropy:.2f} nats/token: the generator is collapsing; "
            "raise objective.entropy_weight or objective.kl_weight, or lower its learning rate"
        )
    if length is not None and real_length and not 0.75 < length / real_length < 1.33:
        found["length"] = (
            f"generated texts have {length:.1f} tokens, real ones {real_length:.1f}: the reward depends on length; "
            "raise objective.kl_weight"
        )
    repetition, real_repetition = recent("repetition"), recent("real_repetition")
    if repetition is not None and real_repetition is not None and repetition > real_repetition + MORE_REPETITION:
        found["repetition"] = (
            f"{repetition:.0%} of a text's 2-grams repeat earlier ones of it, {real_repetition:.0%} in real text: the "
            "generator repeats itself; raise objective.kl_weight or objective.entropy_weight, or lower its learning "
            "rate"
        )
    if kl is not None and kl > 1.0:
        found["kl"] = (
            f"KL from the pre-trained generator is {kl:.2f} nats/token: it has drifted far; raise objective.kl_weight"
        )
    return found


@suggests_names
def likelihood_alarms(lines: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Signs of overfitting in likelihood training, by a short name, each with advice.

    Args:
        lines: the phase's records so far, oldest first: of steps with "loss", of validations with "step",
            "valid_nats_per_token" and "valid_standard_error". The last validation is checked.

    Example:
        >>> figures = ((100, 2.0), (200, 2.5))
        >>> names = ("step", "valid_nats_per_token")
        >>> lines = [dict(zip(names, pair)) | {"valid_standard_error": 0.01} for pair in figures]
        >>> list(gg.likelihood_alarms(lines))
        ['overfitting']
    """
    validations = [(i, line) for i, line in enumerate(lines) if "valid_nats_per_token" in line]
    if not validations:
        return {}
    begin = validations[-2][0] if len(validations) > 1 else 0
    end, last = validations[-1]
    losses = [line["loss"] for line in lines[begin:end] if line.get("loss") is not None]
    signs = {"overfitting": _rise([line for _, line in validations]), "gap": _gap(losses, last)}
    return {name: sign for name, sign in signs.items() if sign is not None}


def _rise(validations: Sequence[Mapping[str, Any]]) -> str | None:
    """The alarm if the last validation loss is above the best by more than three of its standard errors."""
    best, last = min(validations, key=lambda line: line["valid_nats_per_token"]), validations[-1]
    if last["valid_nats_per_token"] - best["valid_nats_per_token"] <= 3 * last["valid_standard_error"]:
        return None
    rise = f"validation rose to {last['valid_nats_per_token']:.3f} nats/token from {best['valid_nats_per_token']:.3f}"
    return (
        f"{rise} at step {best['step']}: the generator memorises its training text; the best checkpoint is kept, so "
        f"end the phase sooner, or {LEARN_LESS}"
    )


def _gap(losses: Sequence[float], validation: Mapping[str, Any]) -> str | None:
    """The alarm if the training loss since the previous validation is lower by WIDE_GAP, LEAST_GAP and 3 errors.

    Dropout and the learning since then both raise this training loss, so the gap is underestimated.
    """
    if len(losses) < 2:
        return None
    training, valid = fmean(losses), validation["valid_nats_per_token"]
    error = math.hypot(validation["valid_standard_error"], stdev(losses) / math.sqrt(len(losses)))
    if valid - training <= max(WIDE_GAP * valid, LEAST_GAP, 3 * error):
        return None
    return (
        f"training text costs {training:.3f} nats/token, validation text {valid:.3f}: the generator now mostly "
        f"memorises its training text; {LEARN_LESS}"
    )
