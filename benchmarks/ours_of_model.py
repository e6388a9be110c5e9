"""Our side of the cases with a real model: as in `gptgan train` and `gptgan sample`."""

import functools
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import gptgan_jax as gg
from benchmarks.sides import (
    CASES,
    MODEL,
    MODEL_ROWS,
    MODEL_TOKENS,
    PROMPT,
    Arrays,
    Side,
    as_bytes,
    config_of,
    flattened,
)
from gptgan_jax.algorithms.learning import gradient_of
from gptgan_jax.config import Config, Phase
from gptgan_jax.distributed.partitioning import MeshConfig
from gptgan_jax.layers.lora import with_adapters, without_adapters
from gptgan_jax.models.shared_trunk import begun_from
from gptgan_jax.runs.experiment import load_start
from gptgan_jax.runs.pretrained import load_generator
from gptgan_jax.runs.trained import build_networks
from gptgan_jax.training.beginning import Traced, absent
from gptgan_jax.training.phases import build_gan, step_of
from gptgan_jax.training.sharding import Placement
from gptgan_jax.types import GanState, Player


def side(case: str) -> Side:
    """Our side of a case; the model is loaded, everything else comes from fixed keys."""
    return _SIDES[case](config_of(case), CASES[case].phase)


def _texts(vocabulary: gg.Vocabulary, rows: int) -> jax.Array:
    """Random tokens, none of which ends a text: int32 [rows, MODEL_TOKENS]."""
    return jax.random.randint(
        jax.random.key(1), (rows, MODEL_TOKENS), max(vocabulary.ends, default=0) + 1, vocabulary.size
    )


class _Adapted:
    """Both players on one copy of the model, each with adapters, and the step of a phase compiled as in a run."""

    def __init__(self, config: Config, phase: Phase) -> None:
        start = load_start(config)
        self.generator, discriminator = build_networks(config, start.tokenizer.vocabulary)
        vocabulary = self.generator.vocabulary
        self.batch = gg.unconditional_batch(_texts(vocabulary, config.batch_size(phase)), vocabulary)
        self.gan = build_gan(config, phase, self.generator, discriminator)
        writer, judge = (self._new(network) for network in (self.generator, discriminator))
        params = jax.tree.map_with_path(_with_b, with_adapters(start.params(), writer))
        networks = config.generator.lora, config.discriminator
        judge = begun_from(params, judge, *networks, will_begin=phase == "likelihood")
        step = jnp.int32(0)
        players = Player(params, None), Player(judge, None)
        state = GanState(step, jax.random.key(2), jnp.int32(0), *players, estimator=None, reference=None)
        placement = Placement.of(MeshConfig())
        self.state = placement.begun(self.gan, state, self.batch)
        self.step = placement.compiled(step_of(self.gan, phase), self.state, self.gan.learning)

    def _new(self, network: Any) -> gg.types.Params:
        """The parameters of a network that are not in the model; shape structs for the others."""
        traced = Traced(lambda key: network.init(key, self.batch))
        given = {"trunk": without_adapters(traced.shapes["trunk"])}
        return traced.some(jax.random.key(0), absent(traced.shapes, given))

    def run(self) -> None:
        self.state, metrics = self.step(self.state, self.batch)
        jax.block_until_ready((self.state, metrics))


def _with_b(path: Any, x: jax.Array) -> jax.Array:
    """Nonzero values for an adapter's B, which starts at 0, so that A has a gradient too, to be compared."""
    return 0.02 * jax.random.normal(jax.random.key(x.shape[-1]), x.shape) if path[-1].key == "lora_b" else x


def _lora(config: Config, phase: Phase) -> Side:
    parts = _Adapted(config, phase)
    params = parts.state.generator.params
    given = {name: x for name, x in flattened(params).items() if "lora" in name}

    def outputs() -> Arrays:
        nats = parts.generator.weighted_nats
        assert nats is not None
        weights = parts.batch.target_mask / parts.batch.target_mask.sum()

        @jax.jit
        def both(params: Any) -> Any:
            return parts.generator.logits(params, parts.batch), gradient_of(
                nats, params, parts.gan.learning.generator, parts.batch, weights
            )

        logits, (loss, gradient) = both(params)
        return {"logits": np.asarray(logits), "loss": np.asarray(loss), **flattened(gradient, "gradient/")}

    return Side(parts.run, outputs, lambda: {"text": np.asarray(parts.batch.target), **given})


def _adversarial(config: Config, phase: Phase) -> Side:
    return Side(_Adapted(config, phase).run, dict)


def _sampling(config: Config, phase: Phase, temperature: float) -> Side:
    loaded = load_generator(f"hf:{MODEL}", conditional=False)
    theirs = loaded.run.generator.vocabulary
    # Every text gets the full length, as on the rival's side.
    generator = loaded.run.generator._replace(vocabulary=gg.Vocabulary(theirs.size, theirs.pad_id, theirs.bos_id, None))
    prompt = _texts(theirs, MODEL_ROWS)[:, :1]
    mask = jnp.ones(prompt.shape, bool)

    @jax.jit
    def write(params: Any, key: jax.Array, temperature: jax.Array) -> gg.Sample:
        return gg.sample(generator, params, key, prompt, mask, MODEL_TOKENS, temperature)

    keys = [jax.random.key(3)]

    def run() -> None:
        keys[0] = jax.random.fold_in(keys[0], 1)
        jax.block_until_ready(write(loaded.params, keys[0], jnp.float32(temperature)))

    @functools.cache
    def drawn() -> gg.Sample:
        return write(loaded.params, jax.random.key(3), jnp.float32(1))

    def outputs() -> Arrays:
        greedy = write(loaded.params, jax.random.key(3), jnp.float32(0))
        return {"greedy": np.asarray(greedy.tokens), "log_probs": np.asarray(drawn().log_probs)}

    return Side(run, outputs, lambda: {"prompt": np.asarray(prompt), "drawn": np.asarray(drawn().tokens)})


def _loading(config: Config, phase: Phase) -> Side:
    command = [sys.executable, "-m", "gptgan_jax", "sample", f"hf:{MODEL}", "--prompt", PROMPT, "--num", "1"]
    options = ["--temperature", "0", "--max-length", "1"]

    def run() -> str:
        return subprocess.run([*command, *options], check=True, capture_output=True, text=True).stdout.strip()

    return Side(run, lambda: {"first": as_bytes(run())})  # type: ignore[arg-type]


_SIDES: dict[str, Callable[[Config, Phase], Side]] = {
    "smollm_lora": _lora,
    "smollm_sampling": functools.partial(_sampling, temperature=1.0),
    "smollm_greedy": functools.partial(_sampling, temperature=0.0),
    "smollm_loading": _loading,
    "smollm_adversarial": _adversarial,
}
