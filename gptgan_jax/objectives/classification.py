"""Classes and "generated" from one set of K logits (Salimans et al. 2016; Croce et al. 2020, GAN-BERT).

A text is of class k with the probability exp(l_k) / (1 + sum of exp(l)), and generated with what is left: the logit of
"generated" is fixed at 0, as one number added to all K + 1 would change nothing. So the log-odds of "real" are
logsumexp(l), which any pair loss of log-odds takes for its score, and among real texts the classes have softmax(l).
"""

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
        0.0, "on its cross-entropy of the labels of real text; 0: it has no classes", GAME["class_weight"]
    )
    real_fake_weight: float = key(
        1.0, "on its loss of real against generated text; 0: labels alone, no text is written", GAME["real_fake_weight"]
    )
    labelled_share: float | None = key(
        None,
        "share of labelled texts in the batches of warm-up and adversarial phase; none: as in the data",
        gt=0,
        le=1,
    )
    feature_matching_weight: float = key(
        0.0, "on the generator's squared distance between its texts' mean features and real text's", WEIGHT
    )
    label_reward_weight: float = key(
        0.0, "on log p(label | text) of what answers a label, in the reward; in nats", WEIGHT
    )


def class_cross_entropy(classes: Array, label: Array) -> Array:
    """Mean -log softmax(classes)[label] in nats over the rows with a label; 0 where there is none.

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
    """The reward and, at each text's last token, what lessens the distance of mean features (Salimans et al. 2016).

    With features f, the mean m of real texts' and the mean m_i of the other generated texts', text i is paid
    2 weight (m - m_i) . f_i. As (m - m_i) is a constant to the gradient and does not know text i, the expected gradient
    is exactly that of -weight |m - E f|^2, whether it comes by the log-probability of what was written (policy
    gradients) or through f itself (relaxed tokens).

    Raises:
        ValueError: a negative weight; when called, a discriminator without features.
    """
    WEIGHT.check("the weight of feature matching", weight)

    def with_matching(judgement: Judgement, key: Array) -> Array:
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
        return reward(judgement, key) + paid[:, None] * is_last(judgement.fake_mask)

    return with_matching


def naming_label(reward: Reward, weight: Number) -> Reward:
    """The reward and, at the last token of a text that answers a label, weight log softmax(classes)[label].

    The generator's side of AC-GAN (Odena et al. 2017): text that answers "positive" should be told to be positive.
    Texts that answer no label are paid nothing more.

    Raises:
        ValueError: a negative weight; when called, a discriminator without classes.
    """
    WEIGHT.check("the weight of the labels' reward", weight)

    def with_label(judgement: Judgement, key: Array) -> Array:
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
        return reward(judgement, key) + paid[:, None] * is_last(judgement.fake_mask)

    return with_label
