"""Estimators of the generator's gradient: what every one of them takes and gives.

There are four families, by the way that the judgement reaches the generator: `PolicyGradient` through the
log-probabilities of what was written (`policy_gradients`), `Pathwise` through relaxed tokens (`estimators.gumbel`),
`Mediated` through the next-token probabilities of the judge itself (`estimators.cot`), and `SelfPlay` through
log-probabilities alone, without any discriminator (`estimators.spin`). Without one is a `PolicyGradient` with a
`Matching` too, which is paid by a frozen copy of the generator, and `Distillation`, which has a teacher
(`estimators.distillation`). A new estimator is a function that returns one of these tuples; docs/extending.md writes
one.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol, cast

from gptgan_jax.errors import suggests_names
from gptgan_jax.objectives.shapes import check_arrays
from gptgan_jax.types import Array, Batch, PyTree, Sample, as_tuple

Metrics = dict[str, Array]


@suggests_names
class Experience(NamedTuple):
    """What the generator wrote in a step, and what it is paid.

    Attributes:
        sample: R texts of T tokens, the N texts of a prompt being neighbours. Its `log_probs` are those of the
            generator before this step's updates, without gradient.
        rewards: float32 [R, T], paid at each token; at the last one alone where whole texts are scored. Where the
            estimator asks for `rollouts`: the estimated value of having written each token.
        hidden: float [R, T, D], the generator's hidden state that each token was drawn from, without gradient.
        samples: N, texts a prompt. In `loss` with several minibatches, the rows are some of these in any order.

    Example:
        >>> experience.rewards.shape, experience.hidden.shape, experience.samples
        ((2, 3), (2, 3, 4), 2)
    """

    sample: Sample
    rewards: Array
    hidden: Array
    samples: int

    def check(self, function: str, **others: tuple[Array, str]) -> None:
        """Checks the arrays that estimators read, and others that go with them: see `check_arrays`.

        Raises:
            TypeError, ValueError: one has another type or shape; `function` and the argument are named.
        """
        check_arrays(
            function,
            rewards=(self.rewards, "float [R, T]"),
            mask=(self.sample.mask, "bool [R, T]"),
            **others,
        )

    def check_groups(self, function: str) -> None:
        """Raises ValueError if the rows are not `samples` texts for each prompt."""
        rows = self.sample.mask.shape[0]
        if rows % self.samples:
            raise ValueError(f"{function}: {rows} texts are not {self.samples} for each prompt")


@suggests_names
class Matching(NamedTuple):
    """What a text is paid where there is no discriminator: its features, by a frozen copy, beside those of a real text.

    Attributes:
        depths: shares of the generator's layers after which the last token's state is a feature.
        pay: (features of R written texts [R, L, D], of B real ones [B, L, D], bool [B] which of these have any token)
            -> (what each written text is paid, float32 [R], metrics).
        stretches: the real batch -> the batch whose prompts are answered, and whose targets are the real texts.

    Example:
        >>> matching = gg.feature_matching(samples=3, depths=(1.0,), whitening="none").matching
        >>> paid, _ = matching.pay(jnp.ones((6, 1, 4)), jnp.ones((2, 1, 4)), jnp.array([True, True]))
        >>> paid.shape  # 3 texts for each of 2 prompts
        (6,)
    """

    depths: tuple[float, ...]
    pay: Callable[[Array, Array, Array], tuple[Array, Metrics]]
    stretches: Callable[[Batch], Batch]


@suggests_names
class PolicyGradient(NamedTuple):
    """Score-function estimators: the gradient of log-probabilities, weighted by advantages.

    Attributes:
        init: width of the hidden states -> state, carried in `GanState.estimator`.
        advantages: (state, Experience) -> (advantages float32 [R, T], new state, metrics); once a step.
        loss: (log_probs float32 [R, T], Experience, advantages) -> float32 []: a surrogate of which only the gradient
            means something, averaged over texts. `log_probs` are differentiable and 0 outside the mask.
        samples: N, texts written for each prompt.
        rollouts: continuations of every prefix whose judgement estimates the value of a token; 0 is none.
        epochs: passes over the texts of a step.
        minibatches: updates a pass.
        whole_texts: its advantages are those of whole texts, so that rewards should be paid at the last token alone.
        matching: what pays in place of the discriminator; None where that does.

    Example:
        >>> estimator = gg.reinforce()
        >>> log_probs = jnp.full((2, 3), -1.0)
        >>> estimator.loss(log_probs, experience, advantages=jnp.ones((2, 3)))  # 5 tokens in 2 texts
        Array(2.5, dtype=float32)
    """

    init: Callable[[int], PyTree]
    advantages: Callable[[PyTree, Experience], tuple[Array, PyTree, Metrics]]
    loss: Callable[[Array, Experience, Array], Array]
    samples: int = 1
    rollouts: int = 0
    epochs: int = 1
    minibatches: int = 1
    whole_texts: bool = False
    matching: Matching | None = None


@suggests_names
class Pathwise(NamedTuple):
    """Estimators that differentiate the judgement itself, through tokens made continuous.

    Attributes:
        init: width of the hidden states -> state.
        relax: (state, key, logits float32 [R, T, V], tokens int32 [R, T]) -> float32 [R, T, V], what the discriminator
            reads in place of the tokens that were drawn from those logits; differentiable in the logits.
        advance: state -> (state of the next step, metrics).

    Example:
        >>> estimator = gg.gumbel(temperature=0.5)
        >>> estimator.init(4), isinstance(estimator, gg.Pathwise)
        (Array(0, dtype=int32), True)
    """

    init: Callable[[int], PyTree]
    relax: Callable[[PyTree, Array, Array, Array], Array]
    advance: Callable[[PyTree], tuple[PyTree, Metrics]]


@suggests_names
class Mediated(NamedTuple):
    """Estimators whose judge is a language model of real and generated text alike, the mediator.

    It is the discriminator's Transformer, which learns the next token of both in equal shares, and no score.

    Attributes:
        init: width of the hidden states -> state.
        loss: (logits, mediator's logits, float32 [R, T, V] at the same prefixes, tokens int32 [R, T], mask bool [R, T])
            -> (float32 [], metrics), averaged over texts; differentiable in the first.

    Example:
        >>> logits = generator.logits(params, batch)
        >>> loss, metrics = gg.cot().loss(logits, logits, batch.target, batch.target_mask)
        >>> float(loss)  # the mediator is the generator
        0.0
    """

    init: Callable[[int], PyTree]
    loss: Callable[[Array, Array, Array, Array], tuple[Array, Metrics]]


@suggests_names
class SelfPlay(NamedTuple):
    """Estimators without a discriminator: real text against text of an earlier generator, the reference.

    Attributes:
        init: width of the hidden states -> state.
        loss: (real, reference's real, written, reference's written), log-probabilities float32 [B] of whole texts
            -> (float32 [], metrics).
        refresh: state -> (new state, bool []: whether the generator of now becomes the reference first).

    Example:
        >>> estimator = gg.spin(refresh_every=2)
        >>> step, refreshes = estimator.refresh(estimator.init(4))
        >>> int(step), bool(refreshes)
        (1, True)
    """

    init: Callable[[int], PyTree]
    loss: Callable[[Array, Array, Array, Array], tuple[Array, Metrics]]
    refresh: Callable[[PyTree], tuple[PyTree, Array]]


@suggests_names
class Distillation(NamedTuple):
    """Estimators without a discriminator: a teacher's next-token distributions, at prefixes of some texts.

    Attributes:
        init: width of the hidden states -> state.
        beta: of the divergence between teacher and student; see `likelihood.generalised_jensen_shannon`.
        on_policy: share of the texts that the student writes, the others being those of the batch.

    Example:
        >>> estimator = gg.distill(beta=0.0, on_policy=0.5)
        >>> isinstance(estimator, gg.Distillation), estimator.on_policy
        (True, 0.5)
    """

    init: Callable[[int], PyTree]
    beta: float
    on_policy: float


Estimator = PolicyGradient | Pathwise | Mediated | SelfPlay | Distillation


class PolicyGradientProtocol(Protocol):
    """What a score-function estimator must have; of `PolicyGradient`'s numbers it has what it needs.

    Example:
        >>> from types import SimpleNamespace
        >>> own = SimpleNamespace(**gg.rloo(samples=4)._asdict())  # or a class of one's own
        >>> gan = gg.gan_from(generator, discriminator, estimator=own, **optimizers)
    """

    @property
    def init(self) -> Callable[[int], PyTree]: ...
    @property
    def advantages(self) -> Callable[[PyTree, Experience], tuple[Array, PyTree, Metrics]]: ...
    @property
    def loss(self) -> Callable[[Array, Experience, Array], Array]: ...


class PathwiseProtocol(Protocol):
    """What an estimator through relaxed tokens must have, as `Pathwise` says of each.

    Example:
        >>> from types import SimpleNamespace
        >>> own = SimpleNamespace(**gg.gumbel()._asdict())  # or a class of one's own
        >>> gan = gg.gan_from(generator, discriminator, estimator=own, **optimizers)
    """

    @property
    def init(self) -> Callable[[int], PyTree]: ...
    @property
    def relax(self) -> Callable[[PyTree, Array, Array, Array], Array]: ...
    @property
    def advance(self) -> Callable[[PyTree], tuple[PyTree, Metrics]]: ...


class SelfPlayProtocol(Protocol):
    """What an estimator without a discriminator must have, as `SelfPlay` says of each.

    Example:
        >>> from types import SimpleNamespace
        >>> own = SimpleNamespace(**gg.spin()._asdict())  # or a class of one's own
        >>> gan = gg.gan_from(generator, discriminator, estimator=own, **optimizers)
    """

    @property
    def init(self) -> Callable[[int], PyTree]: ...
    @property
    def loss(self) -> Callable[[Array, Array, Array, Array], tuple[Array, Metrics]]: ...
    @property
    def refresh(self) -> Callable[[PyTree], tuple[PyTree, Array]]: ...


class MediatedProtocol(Protocol):
    """What an estimator with a mediator must have, as `Mediated` says of each. With `refresh` besides it is a
    `SelfPlay`.

    Example:
        >>> from types import SimpleNamespace
        >>> own = SimpleNamespace(**gg.cot()._asdict())  # or a class of one's own
        >>> type(gg.estimator_of(own)).__name__
        'Mediated'
    """

    @property
    def init(self) -> Callable[[int], PyTree]: ...
    @property
    def loss(self) -> Callable[[Array, Array, Array, Array], tuple[Array, Metrics]]: ...


class DistillationProtocol(Protocol):
    """What an estimator with a teacher must have, as `Distillation` says of each.

    Example:
        >>> from types import SimpleNamespace
        >>> own = SimpleNamespace(**gg.distill(beta=0.2)._asdict())  # or a class of one's own
        >>> gg.estimator_of(own).beta
        0.2
    """

    @property
    def init(self) -> Callable[[int], PyTree]: ...
    @property
    def beta(self) -> float: ...
    @property
    def on_policy(self) -> float: ...


EstimatorProtocol = (
    PolicyGradientProtocol | PathwiseProtocol | MediatedProtocol | SelfPlayProtocol | DistillationProtocol
)


@suggests_names
def estimator_of(parts: Estimator | EstimatorProtocol) -> Estimator:
    """The tuple of an estimator's functions; what is none comes back as it is, and `Game.check` says what is wrong.

    Example:
        >>> from types import SimpleNamespace
        >>> type(gg.estimator_of(SimpleNamespace(**gg.gumbel()._asdict()))).__name__
        'Pathwise'
    """
    # The first that fits is taken. `Mediated` is last: a `SelfPlay` has its functions too.
    families = PolicyGradient, Pathwise, SelfPlay, Distillation, Mediated
    found = (
        parts
        if isinstance(parts, families)
        else next((made for family in families if (made := as_tuple(family, parts)) is not parts), parts)
    )
    return cast(Estimator, found)


def matching_of(estimator: Estimator | None) -> Matching | None:
    """What pays in place of a discriminator; None where one does, or nothing is paid."""
    return estimator.matching if isinstance(estimator, PolicyGradient) else None


def without_discriminator(estimator: Estimator | None) -> bool:
    """Whether an estimator has none; one that is not known is taken to have one."""
    return isinstance(estimator, SelfPlay | Distillation) or matching_of(estimator) is not None
