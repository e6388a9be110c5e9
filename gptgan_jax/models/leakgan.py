"""LeakGAN's generator (Guo et al. 2018, arXiv:1709.08624): a manager reads a discriminator's features, a worker tokens.

With f_t the discriminator's features of the first t tokens:

    h^M_t, g_t = LSTM(f_t, h^M_{t-1}), unit(W h^M_t + b)      the manager: a goal, a direction among the features
    w_t        = U (g_t + g_{t-1} + ... + g_{t-c+1})          the last c goals, as a vector of k numbers
    h^W_t      = LSTM(embedding of y_t, h^W_{t-1})            the worker
    logits_t   = O_t w_t,   O_t = K h^W_t + b, [V, k]         O_t w_t is linear in the products of [h^W_t, 1] and w_t

Two cosines say what became of the goals. The manager learns the first, with its goals as what is differentiated; the
second is a reward of the worker:

    followed_t  = cos(f_{t+c} - f_t, g_t)
    intrinsic_t = 1/c sum_{i=1..c} cos(f_t - f_{t-i}, g_{t-i})

The features come from a copy of the discriminator's layers below its head, the subtree `leaked` of the parameters,
which the training steps renew (`with_features_of`) and no gradient changes. So a generator needs no other network to
sample. No gradient passes from worker to manager. Unlike the paper's, the sum of goals includes the current one, as in
feudal networks (Vezhnevets et al. 2017, arXiv:1703.01161); otherwise the first token would have none.
"""

from dataclasses import replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from pydantic import model_validator

from gptgan_jax.layers.dense import DEPTHS, Embedding, OutputHead, Projection
from gptgan_jax.layers.initializers import by_fan_in, normal
from gptgan_jax.layers.lora import LoraConfig
from gptgan_jax.models.cache import RecurrentCache
from gptgan_jax.models.discriminator_networks import CnnConfig, CnnNetwork
from gptgan_jax.models.lstm import LstmLayer
from gptgan_jax.schema import config_dataclass, key
from gptgan_jax.types import Array, Guidance, Params, PyTree


@config_dataclass
class LeakganConfig:
    """The network of a generator that follows goals among the discriminator's features.

    Its discriminator has the network `leaked`. A generator that is trained on (`start` of `gan_from`) needs one
    whose layers are those that it learned with, `params["network"]["leaked"]`; `init_from` of a run sees to that.

    Example:
        >>> cnn = gg.CnnConfig(embedding=4, widths=(2, 3), filters=2, dropout=0.0)
        >>> network = gg.build_generator(gg.LeakganConfig(embedding=4, units=4, goal=2, leaked=cnn), vocabulary)
        >>> network.logits(network.init(key, batch), batch).shape
        (2, 3, 8)
    """

    kind: Literal["leakgan"] = "leakgan"
    embedding: int = key(32, "size of the worker's token embeddings", ge=1)
    units: int = key(32, "size of the states of both LSTMs, the manager's and the worker's", ge=1)
    goal: int = key(16, "numbers by which the worker is told the sum of the goals", ge=1)
    horizon: int = key(4, "tokens over which a goal holds, the paper's c", ge=1)
    dtype: Literal["float32", "bfloat16"] = key("float32", "type in which matrix products are computed")
    leaked: CnnConfig = key(
        lambda: CnnConfig(dropout=0.0),
        "the discriminator's network, without its dropout; default: the discriminator's",
    )
    lora: LoraConfig = key(LoraConfig, "no adapters: rank should be 0")

    @model_validator(mode="after")
    def _check(self) -> "LeakganConfig":
        why = "leaked is what the generator reads of the discriminator: "
        if self.leaked.spectral_norm:
            raise ValueError(f"{why}its weights as they are, set spectral_norm to false there and here")
        if self.leaked.representations > 1:
            raise ValueError(f"{why}one set of features, set representations to 1 there and here")
        if self.leaked.dropout:
            raise ValueError(f"{why}features without dropout, set leaked.dropout to 0")
        if self.lora.rank:
            raise ValueError("lora keeps frozen weights as they are, and leaked follows the discriminator: drop lora")
        return self

    @property
    def encoder_layers(self) -> int:
        """None: both LSTMs read the prompt themselves."""
        return 0

    @property
    def layers(self) -> int:
        """One, the worker's."""
        return 1

    @property
    def features(self) -> int:
        """Numbers of the discriminator's features, and of a goal."""
        return self.leaked.hidden or len(self.leaked.widths) * self.leaked.filters

    @property
    def hidden(self) -> int:
        """Numbers from which the logits are read: the products of the worker's state (and 1) and the goals' vector."""
        return (self.units + 1) * self.goal


def not_readable(generator: Any, discriminator: Any) -> str | None:
    """Why a generator can't read a discriminator's features, by the configurations; None if it can or need not."""
    if not isinstance(generator, LeakganConfig) or discriminator is None:
        return None
    if not isinstance(discriminator, CnnConfig):
        return f"generator leakgan reads a cnn's features: set discriminator to a cnn, not {discriminator.kind}"
    if replace(discriminator, dropout=0.0) != generator.leaked:
        return "generator.leaked should be the discriminator's network, without its dropout: drop it, or set both alike"
    return None


def with_features_of(params: Params, discriminator: Params) -> Params:
    """The generator's parameters with a copy of the discriminator's layers below its head."""
    network = params["network"]
    leaked = {name: jax.tree.map(jnp.copy, discriminator[name]) for name in network["leaked"]}
    return {**params, "network": {**network, "leaked": leaked}}


class LeakganNetwork(nn.Module):
    """From tokens to logits; the state is that of both LSTMs, of the features, and the last c - 1 goals."""

    config: LeakganConfig
    vocab_size: int

    def setup(self) -> None:
        cfg = self.config
        self.leaked = CnnNetwork(cfg.leaked, self.vocab_size)
        self.embedding = Embedding(self.vocab_size, cfg.embedding, cfg.dtype, 1.0)
        self.manager, self.worker = (LstmLayer(cfg.units, cfg.dtype, None) for _ in range(2))
        self.direction = Projection(cfg.features, dtype=cfg.dtype, kernel_init=by_fan_in)
        # A sum of c goals has a norm of up to c.
        self.told = Projection(cfg.goal, use_bias=False, dtype=cfg.dtype, kernel_init=normal(1 / cfg.horizon))
        self.head = OutputHead(self.vocab_size, dtype=cfg.dtype, kernel_init=by_fan_in)

    def encode(self, tokens: Array, mask: Array) -> PyTree:
        """The state before any token."""
        rows, cfg = tokens.shape[0], self.config
        goals = jnp.zeros((rows, cfg.horizon - 1, cfg.features))
        return self.manager.start(rows), self.worker.start(rows), self.leaked.start(rows), goals

    def decode_all(self, tokens: Array, mask: Array, states: PyTree) -> tuple[Array, PyTree]:
        """Hidden states [B, T, (H + 1) k] of whole texts int32 [B, T], and the final state; a masked step keeps it."""
        manager, worker, kept, before = states
        _, goals, manager, kept = self._goals(tokens, mask, manager, kept)
        goals = jnp.concatenate([before, jax.lax.stop_gradient(goals)], axis=1)
        last = jnp.stack([goals[:, i : i + tokens.shape[1]] for i in range(self.config.horizon)]).sum(axis=0)
        told = self.told(last).astype(jnp.float32)
        state, worker = self.worker(self.embedding(tokens), mask, worker)
        state = jnp.pad(state, ((0, 0), (0, 0), (0, 1)), constant_values=1.0)
        hidden = (state[..., None] * told[..., None, :]).reshape(*tokens.shape, -1)
        self.sow(DEPTHS, "states", hidden)
        return hidden, (manager, worker, kept, goals[:, tokens.shape[1] :])

    def decode(self, tokens: Array, cache: RecurrentCache) -> tuple[Array, RecurrentCache]:
        """Logits [B, V] after one new token per row, int32 [B]."""
        hidden, states = self.decode_all(tokens[:, None], jnp.ones_like(tokens[:, None], bool), cache.states)
        return self.head(hidden[:, 0]), RecurrentCache(states)

    def guidance(self, prompt: Array, prompt_mask: Array, target: Array, target_mask: Array) -> Guidance:
        """What became of the goals in whole texts, [R, T] each; R / B neighbours answer each of B prompts."""
        if (count := target.shape[0] // prompt.shape[0]) > 1:
            prompt, prompt_mask = (jnp.repeat(x, count, axis=0) for x in (prompt, prompt_mask))
        tokens, mask = (jnp.concatenate(x, axis=1) for x in ((prompt, target), (prompt_mask, target_mask)))
        manager, _, kept, _ = self.encode(tokens, mask)
        features, goals, _, _ = self._goals(tokens, mask, manager, kept)
        start, c = prompt.shape[1] - 1, self.config.horizon
        features, goals = features[:, start:], goals[:, start:-1]  # of the first t tokens, t from 0 to T and to T - 1
        return Guidance(followed(features, goals, target_mask, c), intrinsic(features, goals, target_mask, c))

    def _goals(self, tokens: Array, mask: Array, manager: PyTree, kept: PyTree) -> tuple[Array, Array, PyTree, PyTree]:
        """Features and goals after each token, float32 [B, T, F]; the states after the last."""
        features, kept = jax.lax.stop_gradient(self.leaked.read_on(tokens, mask, kept))
        states, manager = self.manager(features, mask, manager)
        goals = jnp.where(mask[..., None], _unit(self.direction(states).astype(jnp.float32)), 0.0)
        return features.astype(jnp.float32), goals, manager, kept


def followed(features: Array, goals: Array, mask: Array, horizon: int) -> Array:
    """cos(f_{t+c} - f_t, g_t) for the goal before each token whose c tokens the text has, else 0: float32 [B, T].

    Args:
        features: float32 [B, T + 1, F], of the first t tokens, t = 0..T.
        goals: float32 [B, T, F], of norm 1.
        mask: bool [B, T], the tokens of the texts.
        horizon: c.
    """
    count = max(mask.shape[1] + 1 - horizon, 0)
    moved = features[:, horizon:] - features[:, :count]
    found = jnp.where(mask[:, horizon - 1 :], (_unit(moved) * goals[:, :count]).sum(axis=-1), 0.0)
    return jnp.pad(found, ((0, 0), (0, mask.shape[1] - count)))


def intrinsic(features: Array, goals: Array, mask: Array, horizon: int) -> Array:
    """1/c sum_i cos(f_t - f_{t-i}, g_{t-i}) of each token, the t-th, over the i <= c with t - i >= 0; as `followed`."""
    total = jnp.zeros(mask.shape)
    for i in range(1, min(horizon, mask.shape[1]) + 1):
        moved = features[:, i:] - features[:, :-i]
        cosines = (_unit(moved) * goals[:, : moved.shape[1]]).sum(axis=-1)
        total += jnp.pad(cosines, ((0, 0), (i - 1, 0)))
    return jnp.where(mask, total / horizon, 0.0)


def _unit(x: Array) -> Array:
    """x / |x|; 0 stays 0, with a gradient."""
    return x * jax.lax.rsqrt(jnp.square(x).sum(axis=-1, keepdims=True) + 1e-12)
