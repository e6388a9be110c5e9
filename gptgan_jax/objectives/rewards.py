"""What a generator is paid for a token, or for a whole text: functions of the discriminator's logits.

Each is a function (judgement, key) -> float32 [R, T], differentiable in the scores; nothing counts outside the mask.
`constant` and `random` are controls: their expected gradient is zero, so whatever gain they show was not adversarial.

Example:
    >>> mask = jnp.array([[True, True, True], [True, True, False]])
    >>> judgement = gg.rewards.Judgement(jnp.array([[2.0, 1.0, 3.0], [0.0, -1.0, 9.0]]), mask, jnp.zeros((2, 3)), mask)
    >>> gg.rewards.log_ratio(judgement, key)[0]  # what each token gained
    Array([ 2., -1.,  2.], dtype=float32)
"""

import functools
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from gptgan_jax.errors import suggests_names
from gptgan_jax.objectives import formulas
from gptgan_jax.objectives.likelihood import is_last, masked_mean
from gptgan_jax.objectives.mmd import BANDWIDTHS, check_bandwidths, witness
from gptgan_jax.objectives.shapes import check_arrays
from gptgan_jax.schema.ranges import DISCOUNT, SHARPNESS, check_choice
from gptgan_jax.types import Array, Number

__all__ = [
    "Judgement",
    "Reward",
    "RewardName",
    "build_reward",
    "constant",
    "formula",
    "is_last",
    "log_pair_probability",
    "log_ratio",
    "log_sigmoid",
    "logit",
    "mmd",
    "pair_probability",
    "penalty",
    "random",
    "ranked",
    "reads_prefixes",
    "relative",
    "reward_name",
    "sigmoid",
    "softplus",
]


def __dir__() -> list[str]:
    return __all__


class Judgement(NamedTuple):
    """The discriminator's logits at every token, or for whole texts: in one column (T = 1), or one a representation.

    Attributes:
        fake: float [R, T], of generated texts; where there are several a prompt, they are neighbours.
        fake_mask: bool [R, T].
        real: float [B, T], of the real batch.
        real_mask: bool [B, T].
        fake_features, real_features: float [R, W] and [B, W], of whole texts, what the discriminator's score or its
            class logits are a linear function of; None where it has several representations.
        fake_classes: float [R, K], its class logits of generated texts; None where it has none.
        fake_label: int32 [R], the class that each was asked for; -1 for none.
    """

    fake: Array
    fake_mask: Array
    real: Array
    real_mask: Array
    fake_features: Array | None = None
    real_features: Array | None = None
    fake_classes: Array | None = None
    fake_label: Array | None = None

    def check(self, reward: str) -> None:
        """Raises ValueError or TypeError for scores and masks of other shapes or types; `reward` is named."""
        check_arrays(
            reward,
            fake=(self.fake, "float [R, T]"),
            fake_mask=(self.fake_mask, "bool [R, T]"),
            real=(self.real, "float [B, T]"),
            real_mask=(self.real_mask, "bool [B, T]"),
        )


Reward = Callable[[Judgement, Array], Array]
RewardName = Literal[
    "sigmoid",
    "logit",
    "log_sigmoid",
    "softplus",
    "penalty",
    "log_ratio",
    "pair_probability",
    "log_pair_probability",
    "ranked",
    "mmd",
    "formula",
    "constant",
    "random",
]


def sigmoid(judgement: Judgement, key: Array) -> Array:
    """2 sigma(score) - 1, between -1 and 1 (d'Autume et al. 2019, ScratchGAN)."""
    judgement.check("sigmoid")
    return 2 * jax.nn.sigmoid(judgement.fake.astype(jnp.float32)) - 1


def logit(judgement: Judgement, key: Array) -> Array:
    """The score itself, log D / (1 - D): the log-odds that the text so far is real."""
    judgement.check("logit")
    return judgement.fake.astype(jnp.float32)


def log_sigmoid(judgement: Judgement, key: Array) -> Array:
    """log D, never above 0: the log-probability that the text so far is real (Goodfellow et al. 2014)."""
    judgement.check("log_sigmoid")
    return jax.nn.log_sigmoid(judgement.fake.astype(jnp.float32))


def softplus(judgement: Judgement, key: Array) -> Array:
    """-log(1 - D), never below 0 (Ho & Ermon 2016, GAIL): what the generator gains in the saturating game."""
    judgement.check("softplus")
    return jax.nn.softplus(judgement.fake.astype(jnp.float32))


def penalty(judgement: Judgement, key: Array) -> Array:
    """D - 1, between -1 and 0: minus the probability that the text so far is none of the real ones (SentiGAN, Wang &
    Wan 2018). Of a text that answers a label D is the probability of real text with that label, where the discriminator
    has classes."""
    judgement.check("penalty")
    score = judgement.fake.astype(jnp.float32)
    if judgement.fake_classes is None or judgement.fake_label is None:
        return jax.nn.sigmoid(score) - 1
    label = judgement.fake_label[:, None]
    asked = jnp.take_along_axis(judgement.fake_classes.astype(jnp.float32), jnp.maximum(label, 0), axis=1)
    # The logit of "generated" is 0, and the score is the log-sum-exp of all classes.
    return jnp.exp(jnp.where(label >= 0, asked, score) - jax.nn.softplus(score)) - 1


def log_ratio(judgement: Judgement, key: Array) -> Array:
    """The log-odds that this token gained, s_t - s_{t-1}, with 0 before the first.

    Where s_t is the log-ratio of the two densities of the first t tokens, this is
    log p_real(y_t | y_<t) / p_generator(y_t | y_<t). Over a text it sums to the last score.
    """
    judgement.check("log_ratio")
    scores = judgement.fake.astype(jnp.float32)
    return scores - jnp.pad(scores[:, :-1], ((0, 0), (1, 0)))


def pair_probability(judgement: Judgement, key: Array) -> Array:
    """Mean over the real texts of sigma(fake - real): how often the text is taken for the more real one.

    The probability of Bradley & Terry (1952), as `discrimination.relativistic` fits it. Compared are the scores at the
    same position, of the real texts that have it; where none has it, all real scores that count.
    """
    judgement.check("pair_probability")
    return _mean_over_pairs(jax.nn.sigmoid, judgement)


def log_pair_probability(judgement: Judgement, key: Array) -> Array:
    """Mean over the real texts of log sigma(fake - real), never above 0: minus the generator's loss in a relativistic
    GAN (Jolicoeur-Martineau 2018, arXiv:1807.00734; RelGAN, Nie et al. 2019), over all pairs of a step.

    Compared are the scores at the same position, as by `pair_probability`.
    """
    judgement.check("log_pair_probability")
    return _mean_over_pairs(jax.nn.log_sigmoid, judgement)


def _mean_over_pairs(value: Callable[[Array], Array], judgement: Judgement) -> Array:
    """Mean over the real texts of a value of fake - real, [R, T]; see `pair_probability`."""
    fake, real = judgement.fake.astype(jnp.float32), judgement.real.astype(jnp.float32)

    def mean_won(fake: Array, real: Array, mask: Array) -> Array:
        """Over the real scores: float32 [R], float32 [N], bool [N] -> float32 [R]."""
        won = jnp.where(mask, value(fake[:, None] - real), 0.0)
        return won.sum(axis=1) / jnp.maximum(mask.sum(), 1)

    # One position after another, and computed anew for the gradient: all real scores at all positions would be R T B T
    # numbers.
    @jax.checkpoint
    def at(position: tuple[Array, Array, Array]) -> Array:
        fake, here, here_mask = position
        return jax.lax.cond(
            here_mask.any(),
            lambda: mean_won(fake, here, here_mask),
            lambda: mean_won(fake, real.ravel(), judgement.real_mask.ravel()),
        )

    return jax.lax.map(at, (fake.T, real.T, judgement.real_mask.T)).T


@suggests_names
def ranked(sharpness: Number = 1.0) -> Reward:
    """log of a text's share among the real ones (Lin et al. 2017, RankGAN).

    The share of a score s is exp(g s) / (exp(g s) + sum of exp(g r) over the scores r of the real texts), at the same
    position. Where only some real texts have the position, they stand for all; where none has it, all real scores that
    count do: a share does not rise merely because few real texts are as long. The paper ranks cosine similarities to
    reference texts; here it is the discriminator's score.

    Args:
        sharpness: g, above 0.

    Raises:
        ValueError: the sharpness is not above 0.
    """
    SHARPNESS.check("the sharpness of a ranking", sharpness)

    def reward(judgement: Judgement, key: Array) -> Array:
        judgement.check("ranked")
        mask = judgement.real_mask
        real = jnp.where(mask, sharpness * judgement.real.astype(jnp.float32), -jnp.inf)
        counts = mask.sum(axis=0)
        here = jax.nn.logsumexp(real, axis=0) - jnp.log(jnp.maximum(counts, 1))
        anywhere = jax.nn.logsumexp(real) - jnp.log(jnp.maximum(mask.sum(), 1))
        texts = jnp.log(jnp.maximum(mask.any(axis=1).sum(), 1))
        rivals = texts + jnp.where(counts > 0, here, anywhere)
        return jax.nn.log_sigmoid(sharpness * judgement.fake.astype(jnp.float32) - rivals)

    return reward


@suggests_names
def formula(text: str) -> Reward:
    """A reward by arithmetic on the scores, such as `0.5 * sigmoid(s) * (tanh(s) + 1)`; see `objectives.formulas`.

    Of each token it may read s, the score; s_prev, that of the token before; last and mean, of the whole text; to_go,
    the sum of scores from the token on.

    Args:
        text: the formula.

    Raises:
        UserError: it is none, or holds what no formula may; the message says what it may.
    """
    return functools.partial(_formula, of=formulas.read(text))


def _formula(judgement: Judgement, key: Array, *, of: formulas.Formula) -> Array:
    judgement.check("formula")
    return of(judgement.fake, judgement.fake_mask)


@suggests_names
def mmd(bandwidths: Sequence[Number] = BANDWIDTHS) -> Reward:
    """Likeness of the discriminator's features, at the last token (TextGAN: Zhang et al. 2017, arXiv:1706.03850).

    Text i is paid 2 mean k(f_i, f of real texts) - 2 mean k(f_i, f of the other generated texts), with the Gaussian
    kernel k of `objectives.mmd`. The expected gradient is that of -MMD^2 between the two distributions of features,
    exactly, by policy gradients; through relaxed tokens it is that of the relaxed texts.

    Args:
        bandwidths: of the kernel, each above 0; with several it is their sum.

    Raises:
        ValueError: no bandwidth, or one that is not above 0; when called, a discriminator without features, or a single
            generated text.
    """
    check_bandwidths(bandwidths)
    return functools.partial(_mmd, bandwidths=tuple(bandwidths))


def _mmd(judgement: Judgement, key: Array, *, bandwidths: Sequence[Number]) -> Array:
    judgement.check("mmd")
    fake, real = judgement.fake_features, judgement.real_features
    if fake is None or real is None:
        raise ValueError("the reward mmd compares features of texts, and this discriminator gives none")
    check_arrays("mmd", fake_mask=(judgement.fake_mask, "bool [R, T]"), fake_features=(fake, "float [R, W]"))
    check_arrays("mmd", real_mask=(judgement.real_mask, "bool [B, T]"), real_features=(real, "float [B, W]"))
    return witness(fake, real, bandwidths)[:, None] * is_last(judgement.fake_mask)


@suggests_names
def constant(discount: Number) -> Reward:
    """Control: pays so that the return of every token of every text is 1, whatever its length.

    That is 1 at the last token and 1 - discount at those before it. A reward of 1 a token would not do: where texts may
    end, its return grows with their length, and the generator would learn to write long ones.

    Args:
        discount: the estimator's, in [0, 1].
    """
    DISCOUNT.check("discount", discount)

    def reward(judgement: Judgement, key: Array) -> Array:
        judgement.check("constant")
        return jnp.where(is_last(judgement.fake_mask), 1.0, 1.0 - discount).astype(jnp.float32)

    return reward


def random(judgement: Judgement, key: Array) -> Array:
    """Control: uniform noise between -1 and 1, drawn anew for every token."""
    judgement.check("random")
    return jax.random.uniform(key, judgement.fake.shape, jnp.float32, minval=-1.0, maxval=1.0)


@suggests_names
def relative(reward: Reward) -> Reward:
    """Takes from each generated text's score the real batch's mean at the same position before paying for it.

    The mean is over the real texts that have the position, and over all real scores that count where none has it.
    Wanted where the pair loss fixes only differences (`discrimination.DIFFERENCES_ONLY`): the level of the logits then
    means nothing, and where texts may end it would pay for or against length.
    """

    def relative_reward(judgement: Judgement, key: Array) -> Array:
        judgement.check("relative")
        level = _mean_by_position(judgement.real.astype(jnp.float32), judgement.real_mask)
        return reward(judgement._replace(fake=judgement.fake.astype(jnp.float32) - level), key)

    return relative_reward


_MADE: dict[object, RewardName] = {_mmd: "mmd", _formula: "formula"}
_OF_SCORES: dict[RewardName, Reward] = {
    "sigmoid": sigmoid,
    "logit": logit,
    "log_sigmoid": log_sigmoid,
    "softplus": softplus,
    "penalty": penalty,
    "log_ratio": log_ratio,
}
_relative = relative  # `build_reward` has an argument of that name


def build_reward(
    name: RewardName,
    discount: Number,
    relative: bool = False,
    bandwidths: Sequence[Number] = BANDWIDTHS,
    text: str = "s",
) -> Reward:
    """The reward of a name.

    Args:
        name: of the reward.
        discount: the estimator's.
        relative: see the function `relative`. It changes neither the rewards of pairs and `ranked`, which are made of
            differences already, nor `mmd`, which reads no score, nor the controls.
        bandwidths: of `mmd`.
        text: the formula of `formula`.

    Raises:
        ValueError: no reward has that name.
    """
    check_choice("the reward", name, get_args(RewardName))
    if name in _OF_SCORES:
        return _relative(_OF_SCORES[name]) if relative else _OF_SCORES[name]
    if name == "formula":
        return _relative(formula(text)) if relative else formula(text)
    others: dict[RewardName, Reward] = {
        "pair_probability": pair_probability,
        "log_pair_probability": log_pair_probability,
        "ranked": ranked(),
        "mmd": mmd(bandwidths),
        "constant": constant(discount),
        "random": random,
    }
    return others[name]


def reward_name(reward: Reward) -> RewardName | None:
    """The name of a reward that is one of this module's functions, or of `mmd` or `formula`; None for any other."""
    if isinstance(reward, functools.partial) and reward.func in _MADE:
        return _MADE[reward.func]
    of_pairs: dict[RewardName, Reward] = {
        "pair_probability": pair_probability,
        "log_pair_probability": log_pair_probability,
    }
    named: dict[RewardName, Reward] = {**_OF_SCORES, **of_pairs, "random": random}
    return next((name for name, known in named.items() if known is reward), None)


def reads_prefixes(reward: Reward) -> bool:
    """Whether a reward reads more of a text than one score, so that it means nothing where whole texts are scored."""
    of_formula = isinstance(reward, functools.partial) and reward.func is _formula
    return reward is log_ratio or (of_formula and reward.keywords["of"].names != {"s"})  # type: ignore[attr-defined]


def _mean_by_position(values: Array, mask: Array) -> Array:
    """Mean over the rows that have a position, float32 [B, T] -> [T]; over everything where none has it."""
    counts = mask.sum(axis=0)
    means = jnp.where(mask, values, 0.0).sum(axis=0) / jnp.maximum(counts, 1)
    return jnp.where(counts > 0, means, masked_mean(values, mask))
