"""Compiles every step of a run and its sampler for chips that need not be present; nothing is executed.

The memory of a program is taken from its shapes (`jax.eval_shape`) and from the compiler's memory analysis.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from gptgan_jax.algorithms.gan import Gan
from gptgan_jax.algorithms.guards import skipping
from gptgan_jax.compiling.chips import Slice
from gptgan_jax.compiling.collectives import Collective, collectives_of
from gptgan_jax.compiling.work import Parts, sampler_work, step_work
from gptgan_jax.config import LIKELIHOOD, PHASES, Config, Phase
from gptgan_jax.config.estimators import DistillConfig
from gptgan_jax.distributed.partitioning import build_mesh, row_shares, rows_sharding
from gptgan_jax.errors import UserError
from gptgan_jax.models.discriminators import Discriminator
from gptgan_jax.models.generators import Generator
from gptgan_jax.objectives.likelihood import token_log_probs
from gptgan_jax.objectives.optimizers import learning_count
from gptgan_jax.runs.experiment import load_experiment
from gptgan_jax.runs.trained import build_networks, example_batch
from gptgan_jax.sampling.decoding import sample
from gptgan_jax.text_rewards.config import unpaid
from gptgan_jax.training.phases import build_gan, check_batch_sizes, step_of, what_learns
from gptgan_jax.training.sharding import Placement
from gptgan_jax.types import Array, Batch, GanState, Packed, Params, Player, PyTree, Vocabulary

SAMPLER = "sampler"


@dataclass(frozen=True)
class Memory:
    """Bytes on one device.

    Attributes:
        parameters: of both players, with the reference and the average, if any; in the sampler only the generator's.
        optimizer: moments of both.
        other: batch, replay, estimator's state, keys.
        activations: an upper bound on the part of the temporaries that the larger player's forward pass keeps for its
            backward pass: counted before fusion and recomputation by the compiler, with only the rows split.
        temporaries: all memory used only within the step, by the compiler's analysis.
        outputs: results that do not reuse an argument's memory.
        code: the program itself.
        waiting: arrays that stay on the device and are not arguments of the program.
    """

    parameters: float
    optimizer: float
    other: float
    activations: float
    temporaries: float
    outputs: float
    code: float
    waiting: float = 0.0

    @property
    def total(self) -> float:
        """The sum of all but `activations`, which are part of the temporaries."""
        held = self.parameters + self.optimizer + self.other + self.waiting
        return held + self.temporaries + self.outputs + self.code


@dataclass(frozen=True)
class Program:
    """A compiled program.

    Attributes:
        name: likelihood, continued, warmup, adversarial or sampler.
        memory: on one device; None if the compiler found that it does not fit.
        parts: its computations, over all devices.
        collectives: its communication.
        optimizer_traffic: bytes over all devices that optimisers have to read and write.
        too_large: the compiler's message if it does not fit.
    """

    name: str
    memory: Memory | None
    parts: Parts
    collectives: tuple[Collective, ...] = ()
    optimizer_traffic: float = 0.0
    too_large: str = ""


@dataclass(frozen=True)
class Players:
    """Both networks and the shapes of their texts, without parameters or text.

    Attributes:
        generator, discriminator: the networks.
        example: a batch of one text, for its shapes.
    """

    generator: Generator
    discriminator: Discriminator
    example: Batch


def load_players(config: Config) -> Players:
    """The networks of a configuration. Its text is read only if vocab_size is not enough, and for labels.

    Raises:
        UserError: as `load_experiment`.
    """
    if config.vocab_size is None or config.classifies:
        experiment = load_experiment(config)
        return Players(experiment.generator, experiment.discriminator, experiment.example_batch())
    vocabulary = Vocabulary(config.vocab_size)
    return Players(*build_networks(config, vocabulary), example_batch(config, vocabulary, config.conditional))


@dataclass(frozen=True)
class _Held:
    """The parts of `Memory` that are known without the compiler."""

    parameters: float
    optimizer: float = 0.0
    activations: float = 0.0
    waiting: float = 0.0


class Compiler:
    """Compiles the programs of a run for one slice."""

    def __init__(self, config: Config, players: Players, chips: Slice) -> None:
        """Raises UserError if the mesh does not fit this slice, or a batch can't be split over it."""
        if config.mesh.backend == "pmap":
            raise UserError("mesh.backend pmap can't be compiled ahead of its devices; set --mesh.backend jit")
        if isinstance(config.objective.estimator, DistillConfig) and config.steps("adversarial"):
            raise UserError(
                "objective.estimator distill: the teacher's network is not in the config; compile the other phases "
                "with --adversarial.steps 0"
            )
        self.config, self.players = config, players
        self.mesh, self.slices = build_mesh(config.mesh, chips.devices), chips.count
        self.placement = Placement(self.mesh)
        self.prompt, self.target = players.example.prompt.shape[1], players.example.target.shape[1]
        self.phases = [phase for phase in PHASES if config.steps(phase)]
        check_batch_sizes(config, self.placement)
        self.states = {phase: self.state(phase) for phase in self.phases}

    @property
    def names(self) -> tuple[str, ...]:
        """The phases of the programs, in the order of the run."""
        return (*self.phases, SAMPLER)

    def program(self, name: str) -> Program:
        """Compiles one of them."""
        return next((self.step(phase) for phase in self.phases if phase == name), None) or self.sampler()

    # ---- steps

    def gan(self, phase: Phase) -> Gan:
        """The functional loop of a phase, with the same guard as in a run, which holds a second state."""
        players, rewards = (self.players.generator, self.players.discriminator), unpaid(self.config.objective.rewards)
        return skipping(build_gan(self.config, phase, *players, functions=rewards))

    def state(self, phase: Phase) -> GanState:
        """The phase's state, as shape structs with shardings."""
        first, gan = self.gan("likelihood"), self.gan(phase)

        def begun(key: Array) -> GanState:
            return gan.begin(first.init(key, self.players.example), self.players.example)

        return self.placement.target(jax.eval_shape(begun, jax.random.key(0)))

    def step(self, phase: Phase) -> Program:
        """Compiles the step of a phase."""
        gan, state, batch = (
            self.gan(phase),
            self.states[phase],
            self.batch(self.config.rows(phase), phase in LIKELIHOOD),
        )
        everywhere = jax.sharding.NamedSharding(self.mesh, jax.sharding.PartitionSpec())
        shardings = jax.tree.map(lambda x: x.sharding, state), everywhere
        jitted = jax.jit(step_of(gan, phase), donate_argnums=0, out_shardings=shardings)
        held = _Held(
            parameters=sum(map(_parameters, (state.generator, state.discriminator))) + _on_a_device(state.reference),
            optimizer=_on_a_device((state.generator.opt_state, state.discriminator.opt_state)),
            activations=self.activations(phase),
        )
        parts = step_work(self.config, phase, self.players.generator.vocabulary.size, self.prompt)
        return self.compiled(phase, jitted, (state, batch), held, parts, self.optimizer_traffic(phase))

    def optimizer_traffic(self, phase: Phase) -> float:
        """Bytes over all devices: trained weights, moments and gradients are read, the first two also written."""
        state, (generator_learns, discriminator_learns) = self.states[phase], what_learns(self.config)
        learners = [] if phase == "warmup" else [(state.generator, generator_learns)]
        if phase in ("warmup", "adversarial"):
            learners.append((state.discriminator, discriminator_learns))
        return sum(
            3 * 4.0 * learning_count(player.params, (), learns) + 2 * _whole(player.opt_state)
            for player, learns in learners
        )

    # ---- the sampler

    def sampler(self) -> Program:
        """Compiles the generation of evaluation.batch_size samples, with the largest state in memory."""
        shares = row_shares(self.mesh)
        rows = -(-self.config.evaluation.batch_size // shares) * shares
        params = self.states[self.phases[-1]].generator.params
        batch = self.batch(rows)
        drawing = self.config.evaluation
        options: dict[str, Any] = {"top_k": jnp.int32(drawing.top_k)} if drawing.top_k else {}
        options |= {"top_p": jnp.float32(drawing.top_p)} if drawing.top_p < 1 else {}
        write = partial(sample, self.players.generator)

        def written(params: Params, key: Array, prompt: Array, mask: Array, temperature: Array) -> Any:
            return write(params, key, prompt, mask, self.target, temperature, **options)

        jitted = jax.jit(written, out_shardings=rows_sharding(self.mesh))
        everywhere = jax.sharding.NamedSharding(self.mesh, jax.sharding.PartitionSpec())
        key = jax.eval_shape(lambda: jax.random.key(0)).update(sharding=everywhere)
        temperature = jax.ShapeDtypeStruct((), jnp.float32, sharding=everywhere)
        arguments = (params, key, batch.prompt, batch.prompt_mask, temperature)
        parameters = _on_a_device(params)
        largest = max(_on_a_device(state) for state in self.states.values())
        held = _Held(parameters=parameters, waiting=largest - parameters)
        parts = sampler_work(self.config, self.players.generator.vocabulary.size, self.prompt, rows)
        return self.compiled(SAMPLER, jitted, arguments, held, parts, 0.0)

    # ---- shared by both

    def compiled(
        self,
        name: str,
        jitted: Any,
        arguments: tuple[PyTree, ...],
        held: "_Held",
        parts: Parts,
        optimizer_traffic: float,
    ) -> Program:
        """Lowers and compiles; `held` is the memory that is known without the compiler."""
        try:
            with jax.set_mesh(self.mesh):
                compiled = jitted.lower(*arguments).compile()
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            return Program(name, None, parts, too_large=_too_large(str(error)))
        stats = compiled.memory_analysis()
        # The compiler pads small arrays, and does not count arrays that pass through a step unchanged.
        arguments_size = max(_on_a_device(arguments), float(stats.argument_size_in_bytes))
        memory = Memory(
            parameters=held.parameters,
            optimizer=held.optimizer,
            other=arguments_size - held.parameters - held.optimizer,
            activations=min(held.activations, stats.temp_size_in_bytes),
            temporaries=stats.temp_size_in_bytes,
            outputs=stats.output_size_in_bytes - stats.alias_size_in_bytes,
            code=stats.generated_code_size_in_bytes,
            waiting=held.waiting,
        )
        collectives = collectives_of(compiled.as_text(), self.mesh.size // self.slices, self.target - 1)
        return Program(name, memory, parts, tuple(collectives), optimizer_traffic)

    def batch(self, rows: int, may_pack: bool = False) -> Batch:
        """Shape structs of a batch of `rows` texts, or of packed rows if the run has them, split by rows."""
        place, example = rows_sharding(self.mesh), self.players.example
        if may_pack and self.config.likelihood.packing != "none":
            example = example.replace(packed=Packed(example.target, example.target))
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct((rows, *x.shape[1:]), x.dtype, sharding=place), example)

    def activations(self, phase: Phase) -> float:
        """Bytes on a device that the backward pass of the larger player needs from the forward pass."""
        generator, discriminator = self.players.generator, self.players.discriminator
        state, rows = self.states[phase], self.config.batch_size(phase)
        samples = getattr(self.config.objective.estimator, "samples", 1)
        # The texts of a prompt, which is read once for all of them if the network supports it.
        once = self.prompt > 1 and samples > 1
        of_generator = samples if once and generator.branch is not None else 1
        of_discriminator = 1 + samples if once and discriminator.shares_prompts and not discriminator.drops else 1

        def log_probs(params: Params, batch: Batch) -> Array:
            return token_log_probs(generator.logits(params, batch), batch.target)

        def scores(params: Params, batch: Batch) -> Array:
            return discriminator.scores(params, batch).sequence

        passes: list[tuple[Callable[[Params, Batch], Array], Player, int, int]] = []
        if phase in LIKELIHOOD:
            passes.append((log_probs, state.generator, rows, 1))
        else:
            passes.append((scores, state.discriminator, rows * (1 + samples), of_discriminator))
            if phase == "adversarial":
                passes.append((log_probs, state.generator, rows * samples, of_generator))
        return max(self.kept(*one) for one in passes)

    def kept(self, function: Callable[[Params, Batch], Array], player: Player, rows: int, each: int) -> float:
        """Bytes on a device that grow with the rows of a batch, of the arrays kept for a gradient.

        Args:
            function: of parameters and a batch, whose gradient is taken.
            player: with the parameters.
            rows: texts of the batch.
            each: the number of texts per prompt.
        """

        def gradient_of(params: Params, batch: Batch) -> PyTree:
            return jax.vjp(lambda p: function(p, batch), params)[1]

        def residuals(prompts: int) -> float:
            asked, texts = self.batch(prompts), self.batch(prompts * each)
            texts = texts.replace(prompt=asked.prompt, prompt_mask=asked.prompt_mask)
            return _whole(jax.eval_shape(gradient_of, player.params, texts))

        return (residuals(2) - residuals(1)) * rows / each / row_shares(self.mesh)


def _parameters(player: Player) -> float:
    return _on_a_device((player.params, player.ema))


def _whole(tree: PyTree) -> float:
    """Total bytes of all arrays."""
    return float(sum(x.size * _item_bytes(x) for x in jax.tree.leaves(tree)))


def _on_a_device(tree: PyTree) -> float:
    """Bytes of all arrays' parts on one device."""
    total = 0.0
    for x in jax.tree.leaves(tree):
        size = 1
        for length in x.sharding.shard_shape(x.shape):
            size *= length
        total += size * _item_bytes(x)
    return total


def _item_bytes(x: Any) -> int:
    return 8 if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x.dtype.itemsize


def _too_large(message: str) -> str:
    """The compiler's message as one line."""
    found = re.search(r"Used \S+ of \S+ hbm\.|the total memory required .*?\)\.", message)
    return found[0] if found else message.splitlines()[0]
