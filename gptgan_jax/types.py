"""The arrays that functions exchange: batches of real text, samples, scores, and the training state.

Dimensions: B batch, P prompt length, T target length. Masks are bool and true where a token counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from gptgan_jax.errors import suggests_names

PyTree = Any
Params = Any
Array = jax.Array
Number = float | Array
"""A hyperparameter: a number, or a scalar array, which JAX may be tracing (`jax.vmap` over rates)."""


def as_tuple(kind: Any, parts: Any) -> Any:
    """A named tuple of an object's attributes; the object itself if it lacks one that has no default."""
    if all(hasattr(parts, name) for name in kind._fields if name not in kind._field_defaults):
        return kind(**{name: getattr(parts, name) for name in kind._fields if hasattr(parts, name)})
    return parts


def path_name(path: tuple[Any, ...]) -> str:
    """The name of a parameter from its `jax.tree_util` path, such as trunk/embedding/table."""
    return "/".join(str(getattr(part, "key", part)) for part in path)


@suggests_names
@dataclass(frozen=True)
class Vocabulary:
    """The number of token ids, and the special ones.

    Attributes:
        size: number of ids, V; every id is in [0, V).
        pad_id: fills positions outside the mask; its value never matters.
        bos_id: the one-token prompt of unconditional text, and the first input of a decoder with an encoder.
        eos_id: ends a text and is part of it; None if every text fills the whole target length.
        other_ends: other ids that end a generated text, such as the end of a turn.
        begins_prompts: whether BOS precedes each prompt. If not, as in models without a beginning-of-text token, BOS is
            only the prompt of text that has none.

    Example:
        >>> gg.Vocabulary(size=8).ends, gg.Vocabulary(size=8, eos_id=None).ends
        ((2,), ())
        >>> vocabulary.begun([3, 4])
        [1, 3, 4]
    """

    size: int
    pad_id: int = 0
    bos_id: int = 1
    eos_id: int | None = 2
    other_ends: tuple[int, ...] = ()
    begins_prompts: bool = True

    @property
    def ends(self) -> tuple[int, ...]:
        """All ids that end a text, EOS first; empty if every text fills the whole target length."""
        return self.other_ends if self.eos_id is None else (self.eos_id, *self.other_ends)

    def check(self) -> None:
        """Raises ValueError if the size is below 1 or a special id is out of range."""
        if self.size < 1:
            raise ValueError(f"a vocabulary of size {self.size} has no ids; it should have at least one")
        named = {"pad_id": self.pad_id, "bos_id": self.bos_id, "eos_id": self.eos_id}
        for name, value in (*named.items(), *(("other_ends", end) for end in self.other_ends)):
            if value is not None and not 0 <= value < self.size:
                raise ValueError(f"{name} {value} is none of the vocabulary's ids, which are 0 to {self.size - 1}")

    def check_ids(self, name: str, ids: Array, mask: Array | None = None) -> None:
        """Checks token ids whose values are known; those that are being traced, or are on other hosts, pass.

        Raises:
            ValueError: an id, where the mask is true, is not one of the vocabulary's: it would give NaN.
        """
        if isinstance(ids, jax.core.Tracer) or isinstance(mask, jax.core.Tracer):
            return
        if not getattr(ids, "is_fully_addressable", True):
            return
        found = np.asarray(ids)
        wrong = (found < 0) | (found >= self.size)
        if mask is not None:
            wrong &= np.asarray(mask)
        if wrong.any():
            raise ValueError(f"{name} holds the id {found[wrong][0]}; the vocabulary's are 0 to {self.size - 1}")

    def begun(self, prompt: Sequence[int]) -> list[int]:
        """A prompt's token ids, with BOS before them if the vocabulary wants it."""
        return [self.bos_id, *prompt] if self.begins_prompts or not prompt else list(prompt)


class Packed(struct.PyTreeNode):
    """The generator's input for rows that hold several documents, or part of one.

    Attributes:
        inputs: int32 [B, T], the token before each target token: BOS at the start of a document, otherwise the previous
            token, which for the first token of a row may be in the previous row.
        segments: int32 [B, T], counted from 1; a token attends to earlier tokens of its segment, and positions restart
            in each. 0 is padding.
    """

    inputs: Array
    segments: Array


class TopK(struct.PyTreeNode):
    """A teacher's K most likely tokens at each target position, for distillation without the teacher; see `distill`.

    Attributes:
        ids: int32 [B, T, K], in any order.
        log_probs: float32 [B, T, K], their log-probabilities in nats at temperature 1.

    Example:
        >>> log_probs, ids = jax.lax.top_k(jax.nn.log_softmax(generator.logits(params, batch)), 4)
        >>> taught = batch.replace(top_k=gg.TopK(ids, log_probs))
        >>> taught.top_k.ids.shape
        (2, 3, 4)
    """

    ids: Array
    log_probs: Array


class Batch(struct.PyTreeNode):
    """Real text. Prompts are padded on the left, targets on the right, so that a prompt ends where its target begins.

    Every prompt has at least one token: BOS, if it is otherwise empty.

    Attributes:
        prompt: int32 [B, P]; unconditional text has P = 1 and BOS.
        prompt_mask: bool [B, P].
        target: int32 [B, T], ending in EOS if the text is shorter than T.
        target_mask: bool [B, T]; true up to and including EOS.
        label: int32 [B], the class of the text; -1 for none.
        packed: for likelihood training on packed rows, which ignore the prompts; None: each row is one text.
        rows: int32 [B], the index of each text's document in the training text, for reward functions that look up its
            other columns; otherwise None.
        top_k: a teacher's most likely tokens, for distillation from those; otherwise None.

    Example:
        >>> batch.target.shape, batch.prompt.shape
        ((2, 3), (2, 1))
        >>> batch.target_mask.sum(axis=1)  # tokens of each text, EOS included
        Array([3, 2], dtype=int32)
    """

    prompt: Array
    prompt_mask: Array
    target: Array
    target_mask: Array
    label: Array
    packed: Packed | None = None
    rows: Array | None = None
    top_k: TopK | None = None


@suggests_names
def unconditional_batch(target: Array, vocabulary: Vocabulary) -> Batch:
    """A batch of texts without prompts.

    Args:
        target: int32 [B, T]; a text ends with its first EOS, or fills the row.
        vocabulary: of the ids.

    Raises:
        ValueError: wrong shape, or an id that is not in the vocabulary.

    Example:
        >>> gg.unconditional_batch(jnp.array([[3, 2, 0], [4, 5, 6]]), vocabulary).target_mask
        Array([[ True,  True, False],
               [ True,  True,  True]], dtype=bool)
    """
    if jnp.ndim(target) != 2:
        raise ValueError(f"target should be int [B, T], a text a row, and has the shape {list(jnp.shape(target))}")
    target = jnp.asarray(target, jnp.int32)
    vocabulary.check_ids("target", target)
    rows = target.shape[0]
    mask = jnp.ones(target.shape, bool)
    if vocabulary.eos_id is not None:
        is_eos = target == vocabulary.eos_id
        mask = jnp.cumsum(is_eos, axis=1) - is_eos == 0
    prompt = jnp.full((rows, 1), vocabulary.bos_id, jnp.int32)
    return Batch(prompt, jnp.ones((rows, 1), bool), target, mask, jnp.full(rows, -1, jnp.int32))


class Sample(struct.PyTreeNode):
    """Generated text.

    Attributes:
        tokens: int32 [B, T]; pad_id after EOS.
        mask: bool [B, T]; true up to and including EOS.
        log_probs: float32 [B, T], log-probability in nats of each token under the distribution it was sampled from
            (with temperature, top-k and top-p); 0 outside the mask.

    Example:
        >>> written = gg.sample(generator, params, key, batch.prompt, batch.prompt_mask, length=5)
        >>> written.tokens.shape, written.log_probs.shape
        ((2, 5), (2, 5))
    """

    tokens: Array
    mask: Array
    log_probs: Array


class Guidance(struct.PyTreeNode):
    """What became of the goals of a generator with a manager (LeakGAN, Guo et al. 2018).

    Attributes:
        followed: float32 [B, T], the cosine of the goal before each token and the way that the features then went;
            0 where the text ends sooner. Differentiable by the manager's parameters alone.
        intrinsic: float32 [B, T], the mean cosine of the way to each token and the goals on it, a reward; 0 outside the
            mask.

    Example:
        >>> cnn = gg.CnnConfig(embedding=4, widths=(2, 3), filters=2, dropout=0.0)
        >>> network = gg.build_generator(gg.LeakganConfig(embedding=4, units=4, goal=2, leaked=cnn), vocabulary)
        >>> network.guidance(network.init(key, batch), batch).intrinsic.shape
        (2, 3)
    """

    followed: Array
    intrinsic: Array


class Scores(struct.PyTreeNode):
    """A discriminator's scores of texts, as logits: positive means "real".

    Attributes:
        tokens: float32 [B, T]; entry t scores the text up to and including token t.
        sequence: float32 [B], the score of the whole text, at its last token; for surprisals their mean.
        classes: float32 [B, K], class logits of the whole text, whose log-sum-exp is the score; None if the
            discriminator has no classes.
        features: float32 [B, W], of which the score or the class logits are a linear function; None if the
            discriminator has several representations.
        parts: float32 [B, S], scores of the whole text by each of S representations, with `sequence` as their mean;
            None if the discriminator has one.

    Example:
        >>> scores = discriminator.scores(scorer, batch)
        >>> bool(scores.sequence[0] == scores.tokens[0, 2]), scores.classes is None
        (True, True)
    """

    tokens: Array
    sequence: Array
    classes: Array | None = None
    features: Array | None = None
    parts: Array | None = None

    @property
    def texts(self) -> Array:
        """The scores of whole texts, float32 [B, S]: one column per representation."""
        return self.sequence[:, None] if self.parts is None else self.parts


class Player(struct.PyTreeNode):
    """One network with its optimiser.

    Attributes:
        params: the network's parameters.
        opt_state: the optimiser's state.
        ema: an exponential moving average of the parameters, which is evaluated and kept in their place; None without
            one.

    Example:
        >>> state.generator.ema is None, state.generator.averaged is state.generator.params
        (True, True)
    """

    params: Params
    opt_state: PyTree
    ema: Params | None = None

    @property
    def averaged(self) -> Params:
        """The average if there is one, otherwise the parameters."""
        return self.params if self.ema is None else self.ema


class Replay(struct.PyTreeNode):
    """Generated texts of earlier steps, the oldest overwritten first.

    Attributes:
        texts: Batch of S rows.
        written: int32 [], number of texts stored so far; from S on each replaces an older one.
    """

    texts: Batch
    written: Array


class GanState(struct.PyTreeNode):
    """The whole training state, as checkpoints save it.

    Attributes:
        step: int32 [], steps made since `init`.
        key: typed PRNG key []; never changes, as each step folds in its own number.
        begun: int32 [], the step at which this phase began.
        generator: Player.
        discriminator: Player.
        estimator: the estimator's own state, such as a moving-average baseline.
        reference: the generator's parameters when this phase began, for the KL penalty, or those of its opponent in
            self-play; None if neither is used.
        replay: texts of earlier steps for the discriminator; None if it only sees new ones.
        teacher: the parameters of the teacher in distillation, which steps don't change and checkpoints don't save;
            None without one.
        skipped: int32 [], number of consecutive steps skipped up to now; see `algorithms.guards`. None in a state that
            was built by hand.

    Example:
        >>> int(state.step), gg.parameter_count(state.generator.params), gg.parameter_count(state.discriminator.params)
        (0, 216, 37)
    """

    step: Array
    key: Array
    begun: Array
    generator: Player
    discriminator: Player
    estimator: PyTree
    reference: Params | None
    replay: Replay | None = None
    skipped: Array | None = None
    teacher: Params | None = None
