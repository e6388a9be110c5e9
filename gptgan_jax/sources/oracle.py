"""The literature's synthetic source: an LSTM language model with random weights, whose likelihood is known exactly.

SeqGAN (Yu et al. 2017, https://arxiv.org/abs/1609.05473) draws every weight from N(0, 1) and calls the result the
oracle. Its parameters are a plain dict under the names of the published file: `embedding` [V, H], for each of the
gates input, forget, output and cell `W_gate` [H, H], `U_gate` [H, H], `b_gate` [H], and `W_out` [H, V], `b_out` [V].
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gptgan_jax.errors import UserError
from gptgan_jax.sampling.categorical import draw_tokens

Array = jax.Array
OracleParams = dict[str, Array]

GATES = ("input", "forget", "output", "cell")
# Sequences drawn or scored at once: 256 x 5000 float32 logits are 5 MB and fit in a CPU's cache.
CHUNK = 256


def parameter_shapes(vocab_size: int, hidden: int) -> dict[str, tuple[int, ...]]:
    """Name and shape of every array of an oracle."""
    shapes: dict[str, tuple[int, ...]] = {"embedding": (vocab_size, hidden)}
    for gate in GATES:
        shapes |= {f"W_{gate}": (hidden, hidden), f"U_{gate}": (hidden, hidden), f"b_{gate}": (hidden,)}
    return shapes | {"W_out": (hidden, vocab_size), "b_out": (vocab_size,)}


def init_oracle(seed: int, vocab_size: int = 5000, hidden: int = 32) -> OracleParams:
    """Draws an oracle's float32 parameters from N(0, 1). The same seed gives the same oracle on every device."""
    rng = np.random.default_rng(seed)
    shapes = parameter_shapes(vocab_size, hidden)
    return {name: jnp.asarray(rng.standard_normal(shape, dtype=np.float32)) for name, shape in shapes.items()}


def load_oracle(path: str | Path) -> OracleParams:
    """Reads an oracle's parameters from an .npz file, as float32; vocabulary and hidden size are the file's.

    Raises:
        UserError: no such file, not an .npz file, or an array that is missing, misshapen, not of floats, or not finite.
    """
    arrays = _read_npz(path)
    embedding = arrays.get("embedding")
    if embedding is None or embedding.ndim != 2:
        found = "missing" if embedding is None else f"of shape {embedding.shape}"
        raise UserError(f"{path}: array 'embedding' is {found}; an oracle needs it as [vocabulary, hidden]")
    expected = parameter_shapes(*embedding.shape)
    if missing := [name for name in expected if name not in arrays]:
        raise UserError(f"{path}: lacks the arrays {', '.join(missing)}; an oracle has {', '.join(expected)}")
    for name, shape in expected.items():
        if arrays[name].shape != shape:
            raise UserError(f"{path}: array '{name}' has shape {arrays[name].shape}; it should be {shape}")
        if arrays[name].dtype.kind != "f" or not np.isfinite(arrays[name]).all():
            raise UserError(f"{path}: array '{name}' ({arrays[name].dtype}) should hold finite floats")
    return {name: jnp.asarray(arrays[name], jnp.float32) for name in expected}


def _read_npz(path: str | Path) -> dict[str, np.ndarray]:
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file; an oracle is an .npz file, or leave the path out to draw one")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # NumPy raises a dozen kinds here: bad zip, bad header, an object array, ...
        raise UserError(f"{path}: not an .npz file of plain arrays ({error})") from error


def sample_oracle(params: OracleParams, key: Array, count: int, length: int, start_token: int = 0) -> Array:
    """Draws exact samples from the oracle.

    Sequence i depends only on the key and on i, so a larger count extends the same list.

    Args:
        params: the oracle.
        key: typed PRNG key [].
        count: number of sequences, N.
        length: tokens in each, T.
        start_token: the token before the first, which is not part of the sequence.

    Returns:
        int32 [N, T].
    """
    starts = range(0, count, CHUNK)
    chunks = [_sample_chunk(params, jax.random.fold_in(key, i), start_token, length) for i in range(len(starts))]
    return jnp.concatenate(chunks)[:count] if chunks else jnp.zeros((0, length), jnp.int32)


def oracle_log_probs(params: OracleParams, tokens: Array, start_token: int = 0) -> Array:
    """Log-probability in nats of each token given those before it.

    Args:
        params: the oracle.
        tokens: integers [N, T], each in [0, V).
        start_token: the token before the first.

    Returns:
        float32 [N, T].
    """
    cell = _lstm_cell(params)

    def score(carry: tuple[Any, Array], token: Array) -> tuple[tuple[Any, Array], Array]:
        state, previous = carry
        state, logits = cell(state, previous)
        chosen = jnp.take_along_axis(logits, token[:, None], axis=1)[:, 0]
        return (state, token), chosen - jax.nn.logsumexp(logits, axis=1)

    carry = _first_carry(params, tokens.shape[0], start_token)
    _, log_probs = jax.lax.scan(score, carry, tokens.astype(jnp.int32).T)
    return log_probs.T


@dataclass(frozen=True, eq=False)
class Oracle:
    """An oracle as a source of text: draws token sequences and computes their exact log-probability.

    Attributes:
        params: see the module's docstring.
        start_token: the token before the first.
    """

    params: OracleParams
    start_token: int = 0

    @property
    def vocab_size(self) -> int:
        return self.params["embedding"].shape[0]

    def sample(self, seed: int, count: int, length: int) -> np.ndarray:
        """Token ids int32 [count, length], a function of the seed."""
        return np.asarray(sample_oracle(self.params, jax.random.key(seed), count, length, self.start_token))

    def log_prob(self, tokens: np.ndarray) -> np.ndarray:
        """Log-probability of whole sequences: integers [N, T] to float64 [N], in nats per sequence.

        Raises:
            ValueError: the array is not of rank 2, or holds an id outside the vocabulary.
        """
        tokens = np.asarray(tokens)
        if tokens.ndim != 2 or (tokens.size and not 0 <= tokens.min() <= tokens.max() < self.vocab_size):
            raise ValueError(f"tokens should be [N, T] with ids in [0, {self.vocab_size})")
        count = len(tokens)
        # Padded to whole chunks, so that all counts use one compiled program per length.
        padded = np.pad(tokens.astype(np.int32), ((0, -count % CHUNK), (0, 0)))
        scores = [
            np.asarray(_log_probs_chunk(self.params, padded[start : start + CHUNK], self.start_token), np.float64)
            for start in range(0, len(padded), CHUNK)
        ]
        return np.concatenate(scores).sum(axis=1)[:count] if scores else np.zeros(0)


def _lstm_cell(params: OracleParams) -> Callable[[tuple[Array, Array], Array], tuple[tuple[Array, Array], Array]]:
    """One step: ((c, h), previous token [N]) -> ((c, h), logits [N, V])."""
    kernel = jnp.concatenate([params[f"W_{gate}"] for gate in GATES], axis=1)
    recurrent = jnp.concatenate([params[f"U_{gate}"] for gate in GATES], axis=1)
    bias = jnp.concatenate([params[f"b_{gate}"] for gate in GATES])

    def step(state: tuple[Array, Array], previous: Array) -> tuple[tuple[Array, Array], Array]:
        c, h = state
        x = params["embedding"][previous]
        i, f, o, g = jnp.split(_dot(x, kernel) + _dot(h, recurrent) + bias, 4, axis=1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (c, h), _dot(h, params["W_out"]) + params["b_out"]

    return step


# By default accelerators multiply float32 in fewer bits, but the oracle's log-probabilities have to be exact.
_dot = partial(jnp.dot, precision=jax.lax.Precision.HIGHEST)


def _first_carry(params: OracleParams, count: int, start_token: int | Array) -> tuple[tuple[Array, Array], Array]:
    zeros = jnp.zeros((count, params["W_input"].shape[0]), jnp.float32)
    return (zeros, zeros), jnp.full((count,), start_token, jnp.int32)


@partial(jax.jit, static_argnames="length")
def _sample_chunk(params: OracleParams, key: Array, start_token: int, length: int) -> Array:
    cell = _lstm_cell(params)

    def draw(carry: tuple[Any, Array], uniforms: Array) -> tuple[tuple[Any, Array], Array]:
        state, previous = carry
        state, logits = cell(state, previous)
        token, _ = draw_tokens(uniforms, logits)
        return (state, token), token

    uniforms = jax.random.uniform(key, (length, 2, CHUNK))
    _, tokens = jax.lax.scan(draw, _first_carry(params, CHUNK, start_token), uniforms)
    return tokens.T


_log_probs_chunk = jax.jit(oracle_log_probs)
