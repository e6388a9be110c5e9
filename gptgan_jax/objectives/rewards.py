"""Rewards of the generator for each token, or for whole texts: functions of the discriminator's logits.

Each is a function (judgement, key) -> float32 [R, T], differentiable in the scores; values outside the mask are
ignored. `constant` and `random` are controls: their expected gradient is zero, so a gain they show is not adversarial.

Example:
    >>> mask = jnp.array([[True, True, True], [True, True, False]])
    >>> judgement = gg.rewards.Judgement(jnp.array([[2.0, 1.0, 3.0], [0.0, -1.0, 9.0]]), mask, jnp.zeros((2, 3)), mask)
    >>> gg.rewards.log_ratio(judgement, key)[0]  # what each token gained
    Array([ 2., -1.,  2.], dtype=float32)
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from gptgan_jax.errors import suggests_names
from gptgan_jax.objectives import formulas
from gptgan_jax.objectives.likelihood import is_last, mean_by_position
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
    "constant_discount",
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
    """The discriminator's logits at every token, or of whole texts: one column (T = 1), or one per representation.

    Attributes:
        fake: float [R, T], of generated texts; the texts of a prompt are neighbours.
        fake_mask: bool [R, T].
        real: float [B, T], of the real batch.
        real_mask: bool [B, T].
        fake_features, real_features: float [R, W] and [B, W], features of whole texts, of which the discriminator's
            score or class logits are a linear function; None if it has several representations.
        fake_classes: float [R, K], class logits of generated texts; None without classes.
        fake_label: int32 [R], the requested class of each generated text, the batch's; -1 for none.
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
        """Raises ValueError or TypeError for scores and masks of wrong shape or type; the message names `reward`."""
        check_arrays(
            reward,
            fake=(self.fake, "float [R, T]"),
            fake_mask=(self.fake_mask, "bool [R, T]"),
            real=(self.real, "float [B, T]"),
            real_mask=(self.real_mask, "bool [B, T]"),
        )

    def scores(self, reward: str) -> Array:
        """`fake` as float32, after `check`."""
        self.check(reward)
        return self.fake.astype(jnp.float32)


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
    return 2 * jax.nn.sigmoid(judgement.scores("sigmoid")) - 1


def logit(judgement: Judgement, key: Array) -> Array:
    """The score itself, log D / (1 - D): the log-odds that the text so far is real."""
    return judgement.scores("logit")


def log_sigmoid(judgement: Judgement, key: Array) -> Array:
    """log D, never above 0: the log-probability that the text so far is real (Goodfellow et al. 2014)."""
    return jax.nn.log_sigmoid(judgement.scores("log_sigmoid"))


def softplus(judgement: Judgement, key: Array) -> Array:
    """-log(1 - D), never below 0 (Ho & Ermon 2016, GAIL): the generator's objective in the saturating game."""
    return jax.nn.softplus(judgement.scores("softplus"))


def penalty(judgement: Judgement, key: Array) -> Array:
    """D - 1, between -1 and 0: minus the probability that the text so far is generated (SentiGAN, Wang & Wan 2018).

    With a discriminator that has classes, D of a text that answers a label is the probability of real text with that
    label; texts are then scored whole (dense=False), as only whole texts have class logits. Every label of a batch
    counts as asked for: give -1 where the prompt does not name it.

    Raises:
        ValueError: when called, with classes and more than one score per text.
    """
    score = judgement.scores("penalty")
    if judgement.fake_classes is None or judgement.fake_label is None:
        return jax.nn.sigmoid(score) - 1
    if score.shape[1] > 1:
        raise ValueError("the reward penalty reads classes, which whole texts alone have: set dense to false")
    label = judgement.fake_label[:, None]
    asked = jnp.take_along_axis(judgement.fake_classes.astype(jnp.float32), jnp.maximum(label, 0), axis=1)
    # The logit of "generated" is 0, and the score is the log-sum-exp of all classes.
    return jnp.exp(jnp.where(label >= 0, asked, score) - jax.nn.softplus(score)) - 1


def log_ratio(judgement: Judgement, key: Array) -> Array:
    """The log-odds gained by this token, s_t - s_{t-1}, with 0 before the first.

    If s_t is the log-ratio of the two densities of the first t tokens, this is
    log p_real(y_t | y_<t) / p_generator(y_t | y_<t). Over a text it sums to the last score.
    """
    scores = judgement.scores("log_ratio")
    return scores - jnp.pad(scores[:, :-1], ((0, 0), (1, 0)))


def pair_probability(judgement: Judgement, key: Array) -> Array:
    """Mean over the real texts of sigma(fake - real): how often the text would be taken for the real one.

    This is the probability of Bradley & Terry (1952), as fitted by `discrimination.relativistic`. Scores are compared
    at the same position, with the real texts that have it; if none has it, with all real scores inside the mask.
    """
    judgement.check("pair_probability")
    return _mean_over_pairs(jax.nn.sigmoid, judgement)


def log_pair_probability(judgement: Judgement, key: Array) -> Array:
    """Mean over the real texts of log sigma(fake - real), never above 0: minus the generator's loss in a relativistic
    GAN (Jolicoeur-Martineau 2018, arXiv:1807.00734; RelGAN, Nie et al. 2019), over all pairs of a step.

    Scores are compared as in `pair_probability`.
    """
    judgement.check("log_pair_probability")
    return _mean_over_pairs(jax.nn.log_sigmoid, judgement)


def _mean_over_pairs(value: Callable[[Array], Array], judgement: Judgement) -> Array:
    """Mean over the real texts of a function of fake - real, [R, T]; see `pair_probability`."""
    fake, real = judgement.fake.astype(jnp.float32), judgement.real.astype(jnp.float32)

    def mean_won(fake: Array, real: Array, mask: Array) -> Array:
        """Over the real scores: float32 [R], float32 [N], bool [N] -> float32 [R]."""
        won = jnp.where(mask, value(fake[:, None] - real), 0.0)
        return won.sum(axis=1) / jnp.maximum(mask.sum(), 1)

    # One position at a time, recomputed for the gradient: all pairs at all positions would be R T B T numbers.
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
    """The log of a text's share in a softmax with the real texts (Lin et al. 2017, RankGAN).

    The share of a score s is exp(g s) / (exp(g s) + sum of exp(g r) over the scores r of the real texts), at the same
    position. If only some real texts have the position, the sum is scaled up from those to all; if none has it, all
    real scores inside the mask are used. Thus a share does not rise merely because few real texts are as long. The
    paper ranks cosine similarities to reference texts; here the discriminator's scores are ranked.

    Args:
        sharpness: g, above 0.

    Raises:
        ValueError: the sharpness is not above 0.
    """
    SHARPNESS.check("the sharpness of a ranking", sharpness)
    return functools.partial(_ranked, sharpness=sharpness)


def _ranked(judgement: Judgement, key: Array, *, sharpness: Number) -> Array:
    judgement.check("ranked")
    mask = judgement.real_mask
    real = jnp.where(mask, sharpness * judgement.real.astype(jnp.float32), -jnp.inf)
    counts = mask.sum(axis=0)
    here = jax.nn.logsumexp(real, axis=0) - jnp.log(jnp.maximum(counts, 1))
    anywhere = jax.nn.logsumexp(real) - jnp.log(jnp.maximum(mask.sum(), 1))
    texts = jnp.log(jnp.maximum(mask.any(axis=1).sum(), 1))
    rivals = texts + jnp.where(counts > 0, here, anywhere)
    return jax.nn.log_sigmoid(sharpness * judgement.fake.astype(jnp.float32) - rivals)


@suggests_names
def formula(text: str) -> Reward:
    """A reward by arithmetic on the scores, such as `0.5 * sigmoid(s) * (tanh(s) + 1)`; see `objectives.formulas`.

    At each token it may use s, the score; s_prev, the score of the previous token; last and mean, of the whole text;
    and to_go, the sum of scores from the token on.

    Args:
        text: the formula.

    Raises:
        UserError: it is not a valid formula; the message says what is allowed.
    """
    return functools.partial(_formula, of=formulas.read(text))


def _formula(judgement: Judgement, key: Array, *, of: formulas.Formula) -> Array:
    judgement.check("formula")
    return of(judgement.fake, judgement.fake_mask)


@suggests_names
def mmd(bandwidths: Sequence[Number] = BANDWIDTHS) -> Reward:
    """Similarity of the discriminator's features, at the last token (TextGAN: Zhang et al. 2017, arXiv:1706.03850).

    The reward of text i is 2 mean k(f_i, f of real texts) - 2 mean k(f_i, f of the other generated texts), with the
    Gaussian kernel k of `objectives.mmd`. With policy gradients the expected gradient is exactly that of -MMD^2 between
    the two distributions of features; through relaxed tokens it is that of the relaxed texts. With N > 1 texts for each
    of B prompts both are approximate: (N - 1) / (B N - 1) of the other texts share the prompt.

    Args:
        bandwidths: of the kernel, each above 0; kernels of several bandwidths are summed.

    Raises:
        ValueError: no bandwidth, or one that is not above 0; when called: the discriminator gives no features, or there
            is only one generated text.
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
    """Control: a reward for which the return of every token of every text is 1, whatever its length.

    It is 1 at the last token and 1 - discount at those before it. A reward of 1 per token is no control: its return
    grows with the length of a text, so the generator would learn to generate long ones. Whole texts (dense=False) and
    windows are rewarded at their ends alone, which is a control only with discount 1: otherwise short texts pay more.

    Args:
        discount: the estimator's, in [0, 1]; a gan with another is refused.
    """
    DISCOUNT.check("discount", discount)
    return functools.partial(_constant, discount=discount)


def _constant(judgement: Judgement, key: Array, *, discount: Number) -> Array:
    judgement.check("constant")
    return jnp.where(is_last(judgement.fake_mask), 1.0, 1.0 - discount).astype(jnp.float32)


def random(judgement: Judgement, key: Array) -> Array:
    """Control: uniform noise between -1 and 1, independent for every token."""
    judgement.check("random")
    return jax.random.uniform(key, judgement.fake.shape, jnp.float32, minval=-1.0, maxval=1.0)


@suggests_names
def relative(reward: Reward) -> Reward:
    """The reward, with the real batch's mean score at the same position subtracted from each score.

    The mean is over the real texts that have the position, or over all real scores inside the mask if none has it. Use
    it with pair losses that only depend on differences (`discrimination.DIFFERENCES_ONLY`): the level of the logits is
    then arbitrary, and would reward or penalise length.
    """
    return functools.partial(_paid_relatively, by=reward)


def _paid_relatively(judgement: Judgement, key: Array, *, by: Reward) -> Array:
    score = judgement.scores("relative")
    level = mean_by_position(judgement.real.astype(jnp.float32), judgement.real_mask)
    classes = judgement.fake_classes
    if classes is not None and level.size == 1:
        # The score of a whole text is the log-sum-exp of its class logits, so they have the same level.
        classes = classes.astype(jnp.float32) - level
    return by(judgement._replace(fake=score - level, fake_classes=classes), key)


_MADE: dict[object, RewardName] = {_mmd: "mmd", _formula: "formula", _ranked: "ranked", _constant: "constant"}
_OF_SCORES: dict[str, Reward] = {of.__name__: of for of in (sigmoid, logit, log_sigmoid, softplus, penalty, log_ratio)}
_NAMED: dict[str, Reward] = _OF_SCORES | {of.__name__: of for of in (pair_probability, log_pair_probability, random)}
_relative = relative  # `build_reward` has an argument of that name


def build_reward(
    name: RewardName,
    discount: Number,
    relative: bool = False,
    bandwidths: Sequence[Number] = BANDWIDTHS,
    text: str = "s",
) -> Reward:
    """The reward with a given name.

    Args:
        name: of the reward.
        discount: the estimator's.
        relative: see the function `relative`. It has no effect on the rewards of pairs and `ranked`, which use
            differences already, on `mmd`, which uses no score, and on the controls.
        bandwidths: of `mmd`.
        text: the formula of `formula`.

    Raises:
        ValueError: no reward has that name.
    """
    check_choice("the reward", name, get_args(RewardName))
    if name in _OF_SCORES or name == "formula":
        of_score = formula(text) if name == "formula" else _OF_SCORES[name]
        return _relative(of_score) if relative else of_score
    made: dict[str, Reward] = {"ranked": ranked(), "mmd": mmd(bandwidths), "constant": constant(discount)}
    return (_NAMED | made)[name]


def reward_name(reward: Reward) -> RewardName | None:
    """The name of a reward of this module, with or without `relative`; None for any other."""
    reward = _without_level(reward)
    if isinstance(reward, functools.partial) and reward.func in _MADE:
        return _MADE[reward.func]
    return next((name for name in get_args(RewardName) if _NAMED.get(name) is reward), None)


def reads_prefixes(reward: Reward) -> frozenset[str]:
    """What a reward reads of a text besides one score, by its names in `formulas.NAMES`; empty: nothing."""
    if options := _options(reward, _formula):
        return options["of"].names - {"s"}
    return frozenset({"s_prev"} if _without_level(reward) is log_ratio else ())


def constant_discount(reward: Reward) -> Number | None:
    """The discount of the control `constant`; None for any other reward."""
    return _options(reward, _constant).get("discount")


def _options(reward: Reward, function: Callable[..., Array]) -> dict[str, Any]:
    """What a reward was made with, with or without `relative`; empty if it is not computed by the function."""
    reward = _without_level(reward)
    return reward.keywords if isinstance(reward, functools.partial) and reward.func is function else {}


def _without_level(reward: Reward) -> Reward:
    """The reward inside `relative`; any other reward unchanged."""
    relatively = isinstance(reward, functools.partial) and reward.func is _paid_relatively
    return _without_level(reward.keywords["by"]) if relatively else reward  # type: ignore[attr-defined]
