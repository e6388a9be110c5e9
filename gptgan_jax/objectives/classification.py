"""Classes and "generated" from one set of K logits (Salimans et al. 2016; Croce et al. 2020, GAN-BERT).

A text is of class k with probability exp(l_k) / (1 + sum of exp(l)), and generated with the rest: the logit of
"generated" is fixed at 0, since adding a constant to all K + 1 logits would change nothing. The log-odds of "real" are
therefore logsumexp(l), which serves as the score in any pair loss of log-odds, and the classes of real text have the
probabilities softmax(l).
"""

import functools

import jax
import jax.numpy as jnp

from gptgan_jax.objectives.likelihood import masked_mean, token_log_probs
from gptgan_jax.objectives.rewards import Judgement, Reward, is_last
from gptgan_jax.objectives.shapes import check_arrays
from gptgan_jax.schema import config_dataclass, key
from gptgan_jax.schema.ranges import GAME, WEIGHT
from gptgan_jax.types import Array, Number


@config_dataclass
class ClassificationConfig:
    """The discriminator as a classifier of the data's labels."""

    weight: float = key(
        0.0, "weight of the cross-entropy of real texts' labels in its loss; 0: no classes", GAME["class_weight"]
    )
    real_fake_weight: float = key(
        1.0,
        "weight of its loss on real against generated text; 0: only labels are learned, no text is generated",
        GAME["real_fake_weight"],
    )
    labelled_share: float | None = key(
        None,
        "share of labelled texts in the batches of the warm-up and adversarial phases; null: as in the data",
        gt=0,
        le=1,
    )
    feature_matching_weight: float = key(
        0.0,
        "weight, for the generator, of the squared distance between mean features of its texts and real texts",
        WEIGHT,
    )
    label_reward_weight: float = key(
        0.0, "weight of log p(label | text), in nats, in the reward of texts that answer a label", WEIGHT
    )


def class_cross_entropy(classes: Array, label: Array) -> Array:
    """Mean -log softmax(classes)[label] in nats over the rows with a label; 0 if there is none.

    Args:
        classes: float [B, K], the class logits.
        label: int32 [B]; -1 for no label.

    Returns:
        float32 [].
    """
    check_arrays("class_cross_entropy", classes=(classes, "float [B, K]"), label=(label, "int [B]"))
    return masked_mean(-token_log_probs(classes, label), label >= 0)


def class_accuracy(classes: Array, label: Array) -> Array:
    """Share of the rows with a label whose largest logit is the label's: float [B, K], int32 [B] -> float32 []."""
    check_arrays("class_accuracy", classes=(classes, "float [B, K]"), label=(label, "int [B]"))
    right = jnp.argmax(classes, axis=-1) == label
    return masked_mean(right.astype(jnp.float32), label >= 0)


def matching_features(reward: Reward, weight: Number) -> Reward:
    """The reward plus, at each text's last token, one for matching mean features (Salimans et al. 2016).

    With features f, m the mean over real texts and m_i the mean over the other generated texts, text i gets
    2 weight (m - m_i) . f_i. As (m - m_i) is held constant and does not depend on text i, the expected gradient is
    exactly that of -weight |m - E f|^2, through the log-probabilities of the text (policy gradients) as well as through
    f itself (relaxed tokens). With N > 1 texts for each of B prompts that is approximate: (N - 1) / (B N - 1) of the
    other texts share the prompt, on which all of them depend.

    Raises:
        ValueError: a negative weight; when called: the discriminator gives no features.
    """
    WEIGHT.check("the weight of feature matching", weight)
    return functools.partial(_with_matching, by=reward, weight=weight)


def _with_matching(judgement: Judgement, key: Array, *, by: Reward, weight: Number) -> Array:
    fake, real = judgement.fake_features, judgement.real_features
    if fake is None or real is None:
        raise ValueError("feature matching needs a discriminator that gives features")
    check_arrays(
        "matching_features",
        fake_mask=(judgement.fake_mask, "bool [R, T]"),
        fake_features=(fake, "float [R, W]"),
        real_features=(real, "float [B, W]"),
    )
    fake, real = fake.astype(jnp.float32), real.astype(jnp.float32)
    others = (fake.sum(axis=0) - fake) / max(fake.shape[0] - 1, 1)
    away = jax.lax.stop_gradient(real.mean(axis=0) - others)
    paid = 2 * weight * (away * fake).sum(axis=-1)
    return by(judgement, key) + paid[:, None] * is_last(judgement.fake_mask)


def matches_features(reward: Reward | None) -> bool:
    """Whether `matching_features` made a reward, or one that it is a part of."""
    while isinstance(reward, functools.partial) and reward.func is not _with_matching:
        reward = reward.keywords.get("by")
    return isinstance(reward, functools.partial)


def naming_label(reward: Reward, weight: Number) -> Reward:
    """The reward plus, at the last token of a text that answers a label, weight log softmax(classes)[label].

    The generator's side of AC-GAN (Odena et al. 2017): text that answers "positive" should be classified as positive.
    Texts that answer no label get nothing more.

    Raises:
        ValueError: a negative weight; when called: the discriminator has no classes.
    """
    WEIGHT.check("the weight of the labels' reward", weight)
    return functools.partial(_with_label, by=reward, weight=weight)


def _with_label(judgement: Judgement, key: Array, *, by: Reward, weight: Number) -> Array:
    classes, label = judgement.fake_classes, judgement.fake_label
    if classes is None or label is None:
        raise ValueError("a reward for obeying labels needs a discriminator with classes")
    check_arrays(
        "naming_label",
        fake_mask=(judgement.fake_mask, "bool [R, T]"),
        fake_classes=(classes, "float [R, K]"),
        fake_label=(label, "int [R]"),
    )
    paid = weight * jnp.where(label >= 0, token_log_probs(classes, label), 0.0)
    return by(judgement, key) + paid[:, None] * is_last(judgement.fake_mask)
