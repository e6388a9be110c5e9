"""The arithmetic of one pass through a network, from its configuration.

Only matrix products count, with two FLOP per multiply-add, not norms, activations and softmax. There are two figures:
`model` is the minimum that the mathematics needs, so causal attention counts only the lower triangle, T(T + 1)/2 of its
T x T pairs; `performed` is for the program, which computes the whole square and masks it, except for the kernel of
`attention: flash` on a TPU, which skips the blocks above the diagonal. Recomputation in that kernel's backward pass is
not counted.
"""

import itertools
from dataclasses import dataclass

from gptgan_jax.layers.attention import BLOCK, block_of
from gptgan_jax.models.discriminator_networks import (
    CnnConfig,
    DiscriminatorConfig,
    LinearConfig,
    MlpConfig,
    TransformerDiscriminatorConfig,
)
from gptgan_jax.models.generators import GeneratorConfig, RecurrentConfig
from gptgan_jax.models.leakgan import LeakganConfig
from gptgan_jax.models.relational import RelationalConfig
from gptgan_jax.models.transformer_config import TransformerConfig
from gptgan_jax.sampling.decoding import stages_of


@dataclass(frozen=True)
class Work:
    """The cost of a computation, over all devices.

    Attributes:
        model: FLOP that the mathematics needs.
        performed: FLOP of the program.
        recomputed: FLOP, of those performed, that a backward pass repeats if activations are not kept; before a
            backward pass is counted, those that it would repeat.
        weights: bytes of weights that have to be read, in the dtype of their products.
        cache: bytes of keys and values, or of recurrent states, that have to be read.
    """

    model: float = 0.0
    performed: float = 0.0
    recomputed: float = 0.0
    weights: float = 0.0
    cache: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        return Work(*(a + b for a, b in zip(self._figures(), other._figures(), strict=True)))

    def __mul__(self, factor: float) -> "Work":
        return Work(*(factor * figure for figure in self._figures()))

    __rmul__ = __mul__

    def with_backward(self) -> "Work":
        """The pass with its gradient: two more products for each, and the recomputed ones."""
        passes = 3 + (1 if self.recomputed else 0)
        return Work(3 * self.model, 3 * self.performed + self.recomputed, self.recomputed, passes * self.weights)

    def with_input_gradient(self) -> "Work":
        """The pass with its gradient by the input only: one more product for each."""
        passes = 2 + (1 if self.recomputed else 0)
        return Work(2 * self.model, 2 * self.performed + self.recomputed, self.recomputed, passes * self.weights)

    def _figures(self) -> tuple[float, ...]:
        return self.model, self.performed, self.recomputed, self.weights, self.cache


def generator_forward(
    config: GeneratorConfig, vocab_size: int, rows: int, prompt: int, target: int, prompts: int | None = None
) -> Work:
    """Teacher-forced logits of `rows` texts of `target` tokens after `prompt` tokens.

    With `prompts`, the texts share that many prompts, each of which is read once.
    """
    read = rows if prompts is None else prompts
    if isinstance(config, RecurrentConfig):
        head = _product(rows * target, config.hidden, vocab_size, config.dtype)
        encoded = _recurrent(config, read, prompt) if config.encoder_layers else Work()
        if prompts is None:
            return encoded + head + _recurrent(config, rows, target if config.encoder_layers else prompt + target - 1)
        begun = _recurrent(config, read, 1 if config.encoder_layers else prompt)
        return encoded + head + begun + _recurrent(config, rows, target - 1)
    head = _product(rows * target, config.width, vocab_size, config.dtype)
    if config.encoder_layers:
        encoder = _blocks(config, config.encoder_layers, read, prompt, prompt, causal=False)
        return encoder + _blocks(config, config.layers, rows, target, target, context=prompt, prompts=prompts) + head
    if prompts is not None:
        return _reading(config, rows, prompts, prompt, target - 1) + head
    length = prompt + target - 1
    return _blocks(config, config.layers, rows, length, length) + head


def generator_sampling(
    config: GeneratorConfig, vocab_size: int, rows: int, prompt: int, target: int, prompts: int | None = None
) -> Work:
    """Sampling of `rows` texts to their full length: one prefill, target - 1 steps on the cache, target draws.

    With `prompts`, the texts share that many prompts, each of which is read and stored once.
    """
    width = config.hidden if isinstance(config, RecurrentConfig) else config.width
    head = _product(rows, width, vocab_size, config.dtype)
    read = rows if prompts is None else prompts
    first_head = _product(read, width, vocab_size, config.dtype)
    if isinstance(config, RecurrentConfig):
        encoded = _recurrent(config, read, prompt) if config.encoder_layers else Work()
        step = _recurrent(config, rows, 1) + Work(cache=_state_bytes(config, rows))
        start = encoded + _recurrent(config, read, 1 if config.encoder_layers else prompt)
        return start + first_head + (target - 1) * (step + head)
    if config.encoder_layers:
        start = _blocks(config, config.encoder_layers, read, prompt, prompt, causal=False)
        start += _blocks(config, config.layers, read, 1, target if prompts is None else 1, context=prompt)
        first, context = 1, prompt
    else:
        start = _blocks(config, config.layers, read, prompt, prompt + target - 1 if prompts is None else prompt)
        first, context = prompt, 0
    own, before = (first, 0) if prompts is None else (0, first)
    steps = (
        _blocks(
            config,
            config.layers,
            rows,
            1,
            own + end - 1,
            filled=own + step,
            before=before,
            context=context,
            cached=True,
            prompts=prompts,
        )
        + head
        for begin, end in itertools.pairwise([1, *stages_of(target, config)])
        for step in range(begin, end)
    )
    return start + first_head + sum(steps, Work())


def discriminator_forward(config: DiscriminatorConfig, rows: int, length: int, whole: bool = False) -> Work:
    """Prefix scores of `rows` texts of `length` tokens, prompts included; or the scores of whole texts alone, for which
    a CNN computes what is above its pooled features only once for each text."""
    tokens = rows * length
    if isinstance(config, LinearConfig):
        return _product(tokens, config.embedding, 1, "float32")
    if isinstance(config, MlpConfig):
        widths = [config.embedding, *[config.hidden] * config.layers]
        hidden = (_product(tokens, *pair, config.dtype) for pair in itertools.pairwise(widths))
        return sum(hidden, _product(tokens, config.hidden, 1, "float32"))
    if isinstance(config, CnnConfig):
        parts = config.representations  # each scored by itself
        size = config.embedding // parts
        filters = (_product(tokens * parts, width * size, config.filters, config.dtype) for width in config.widths)
        return sum(filters, _above_pooled(config, (rows if whole else tokens) * parts))
    return _blocks(config, config.layers, rows, length, length) + _product(tokens, config.width, 1, "float32")


def discriminator_behind(
    config: TransformerDiscriminatorConfig, rows: int, prompts: int, prompt: int, target: int
) -> Work:
    """Prefix scores of `rows` texts for `prompts` prompts, without the cost of reading the prompts."""
    texts = _blocks(config, config.layers, rows, target, target, before=prompt, prompts=prompts)
    return texts + _product(rows * target, config.width, 1, "float32")


def discriminator_ends(config: CnnConfig, rows: int, count: int, start: int, length: int) -> Work:
    """Scores of `rows` texts from the features of their first `start` tokens, which `count` adjacent texts share;
    `length` tokens follow. See `convolution.largest_in_ends`."""
    total = _above_pooled(config, rows)
    for width in config.widths:
        own = sum(min(width, last + 1) for last in range(length))
        shared = sum(min(start, max(0, width - 1 - last)) for last in range(length))
        total += _product(rows * own + rows // count * shared, config.embedding, config.filters, config.dtype)
    return total


def _above_pooled(config: CnnConfig, positions: int) -> Work:
    """From a CNN's pooled features to its score, at so many positions."""
    pooled = len(config.widths) * config.filters
    score = _product(positions, config.hidden or pooled, 1, "float32")
    hidden = bool(config.hidden) * _product(positions, pooled, config.hidden, config.dtype)
    return 2 * config.highway * _product(positions, pooled, pooled, config.dtype) + hidden + score


def discriminator_next_tokens(
    config: TransformerDiscriminatorConfig, vocab_size: int, rows: int, length: int, target: int
) -> Work:
    """Next-token logits of a Transformer discriminator."""
    trunk = _blocks(config, config.layers, rows, length, length)
    return trunk + _product(rows * target, config.width, vocab_size, config.dtype)


def relaxed_embedding(config: DiscriminatorConfig, vocab_size: int, rows: int, target: int) -> Work:
    """Embeddings of relaxed tokens: weighted sums over the vocabulary."""
    width = config.width if isinstance(config, TransformerConfig) else config.embedding
    return _product(rows * target, vocab_size, width, config.dtype)


def _reading(config: TransformerConfig, rows: int, prompts: int, prompt: int, target: int) -> Work:
    """`rows` texts after prompts that are read once: two passes over the weights."""
    read = _blocks(config, config.layers, prompts, prompt, prompt)
    return read + _blocks(config, config.layers, rows, target, target, before=prompt, prompts=prompts)


def _product(rows: int, inner: int, outer: int, dtype: str) -> Work:
    """[rows, inner] @ weights [inner, outer]."""
    flops = 2.0 * rows * inner * outer
    return Work(flops, flops, weights=float(inner * outer * _BYTES[dtype]))


def _state_bytes(config: RecurrentConfig, rows: int) -> float:
    """Bytes of the state between two tokens, in float32."""
    if isinstance(config, LeakganConfig):
        before = (max(config.leaked.widths) - 1) * config.leaked.embedding
        largest = len(config.leaked.widths) * config.leaked.filters
        return 4.0 * rows * (4 * config.units + (config.horizon - 1) * config.features + before + largest)
    return 4.0 * rows * config.hidden * (1 if isinstance(config, RelationalConfig) else 2 * config.layers)


def _recurrent(config: RecurrentConfig, rows: int, tokens: int) -> Work:
    """All layers of an encoder or a decoder, without the head."""
    if isinstance(config, RelationalConfig):
        return _relational(config, rows, tokens)
    if isinstance(config, LeakganConfig):
        return _leakgan(config, rows, tokens)
    total = Work()
    for layer in range(config.layers):
        inputs = config.embedding if layer == 0 else config.hidden
        total += _product(rows * tokens, inputs, 4 * config.hidden, config.dtype)
        # The recurrent weights are read again for every token.
        total += tokens * _product(rows, config.hidden, 4 * config.hidden, config.dtype)
    return total


def _relational(config: RelationalConfig, rows: int, tokens: int) -> Work:
    """The memory's steps, without the head; the projections of the tokens are one product for all of them."""
    width, dtype, all_slots = config.width, config.dtype, config.slots + 1
    once = _product(rows * tokens, config.embedding, width, dtype) + _product(rows * tokens, width, 2 * width, dtype)
    step = _product(rows * all_slots, width, 3 * width, dtype) + 2 * _product(rows * all_slots, width, width, dtype)
    step += _product(rows * config.slots, width, 2 * width, dtype)
    pairs = 4.0 * rows * all_slots**2 * width
    return once + tokens * (step + Work(pairs, pairs))


def _leakgan(config: LeakganConfig, rows: int, tokens: int) -> Work:
    """The discriminator's features, and both LSTMs with the goals between them; without the output layer."""
    cnn, units, dtype = config.leaked, config.units, config.dtype
    pooled = len(cnn.widths) * cnn.filters
    total = sum((_product(rows * tokens, w * cnn.embedding, cnn.filters, cnn.dtype) for w in cnn.widths), Work())
    total += 2 * cnn.highway * _product(rows * tokens, pooled, pooled, cnn.dtype)
    total += bool(cnn.hidden) * _product(rows * tokens, pooled, cnn.hidden, cnn.dtype)
    for inputs in (config.features, config.embedding):
        total += _product(rows * tokens, inputs, 4 * units, dtype) + tokens * _product(rows, units, 4 * units, dtype)
    goals = _product(rows * tokens, units, config.features, dtype)
    return total + goals + _product(rows * tokens, config.features, config.goal, dtype)


def _blocks(
    config: TransformerConfig,
    layers: int,
    rows: int,
    new: int,
    slots: int,
    filled: int | None = None,
    context: int = 0,
    causal: bool = True,
    cached: bool = False,
    before: int = 0,
    prompts: int | None = None,
) -> Work:
    """Blocks that read `new` tokens per row and attend to `slots` slots.

    Args:
        config: of the network.
        layers: the number of blocks.
        rows: texts.
        new: tokens of each text that pass through the blocks.
        slots: slots that the program attends to.
        filled: slots that hold a token after a decoding step; None for whole texts, from their first token on.
        context: tokens of an encoder that cross-attention sees; 0 for none.
        causal: whether a token sees only those before it.
        cached: whether the keys and values of the context are cached already.
        before: tokens of a shared prompt that are also attended to, stored once for all its texts.
        prompts: the number of prompts of the rows; None: one each.
    """
    read = rows if prompts is None else prompts
    width, heads, kv_heads, head = config.width, config.heads, config.key_value_heads, config.head_size
    matrices = 3 if config.activation == "swiglu" else 2
    block = _product(rows * new, width, kv_heads * (config.group + 2) * head, config.dtype)
    block += _product(rows * new, heads * head, width, config.dtype)
    block += matrices * _product(rows * new, width, config.mlp_size, config.dtype)
    pairs = new * filled if filled is not None else (new * (new + 1) // 2 if causal else new * slots)
    pairs += new * before
    if config.window is not None and causal:
        last = before + (filled if filled is not None else new)
        firsts = range(last - new + 1, last + 1) if filled is None else [last] * new
        pairs = sum(min(seen, config.window) for seen in firsts)
    performed = new * slots
    if config.attention == "flash" and filled is None and not before:
        performed = _pairs_of_blocks(new, causal)
    block += _attention(config, rows * pairs, rows * (performed + new * before))
    if context:
        block += _product(rows * new, width, heads * head, config.dtype)
        block += _product(rows * new, heads * head, width, config.dtype)
        block += _attention(config, rows * new * context, rows * new * context)
        if not cached:
            block += _product(read * context, width, 2 * kv_heads * head, config.dtype)
    kept = rows * slots + read * (before + context) if filled is not None else 0
    cache = 2.0 * kept * kv_heads * head * _BYTES[config.dtype]
    recomputed = block.performed if config.remat else 0.0
    return layers * Work(block.model, block.performed, recomputed, block.weights, cache)


def _pairs_of_blocks(tokens: int, causal: bool) -> int:
    """Pairs of a query and a key that `attention.flash_attend` computes for a text on a TPU."""
    if tokens < BLOCK:
        return tokens * tokens
    block = block_of(tokens)
    count = -(-tokens // block)
    return block * block * (count * (count + 1) // 2 if causal else count * count)


def _attention(config: TransformerConfig, pairs: float, performed: float) -> Work:
    """Scores and weighted sums for this number of pairs of a query and a key."""
    of_a_pair = 4.0 * config.heads * config.head_size
    return Work(of_a_pair * pairs, of_a_pair * performed)


_BYTES = {"float32": 4, "bfloat16": 2}
