"""The same update on one device, on eight under jit with any mesh, and on eight programs under pmap and shard_map."""

import dataclasses
import functools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import VOCABULARY, assert_trees_close, assert_trees_differ, batch_of, random_params
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from tiny import tiny_experiment

from gptgan_jax import (
    Batch,
    CnnConfig,
    Demonstrations,
    Gan,
    GanState,
    Generator,
    LeakganConfig,
    LinearConfig,
    LoraConfig,
    LstmConfig,
    Player,
    Sample,
    TextReward,
    TransformerConfig,
    TransformerDiscriminatorConfig,
    build_discriminator,
    build_generator,
    gan_from,
    grpo,
    guided,
    gumbel,
    host_reward,
    learned_value,
    linear_schedule,
    maligan,
    ppo,
    reinforce,
    relativistic,
    rewards,
    rloo,
    rollout,
    rollout_values,
    sample,
    spin,
)
from gptgan_jax.algorithms.game import Game
from gptgan_jax.algorithms.gan import gan_of
from gptgan_jax.compiling.collectives import collectives_of
from gptgan_jax.distributed.partitioning import MeshConfig, build_mesh, gathered, spec_of, state_shardings
from gptgan_jax.errors import UserError
from gptgan_jax.layers.attention import flash_attend
from gptgan_jax.objectives.discrimination import relativistic_tie, wasserstein
from gptgan_jax.training.loop import train
from gptgan_jax.training.run import Run
from gptgan_jax.training.sharding import PMAP_AXIS, Placement
from gptgan_jax.types import path_name

SIZES: dict[str, Any] = {"layers": 1, "width": 8, "heads": 4, "kv_heads": 2, "max_positions": 16}
OPTIMIZERS: dict[str, Any] = {
    "generator_optimizer": optax.sgd(0.1),
    "discriminator_optimizer": optax.sgd(0.5),
}
MESHES = {
    "data": {"data": 8},
    "fsdp": {"data": 1, "fsdp": 8},
    "tensor": {"data": 4, "tensor": 2},
    "mixed": {"data": 2, "fsdp": 2, "tensor": 2},
}


LEAKED = CnnConfig(embedding=8, widths=(1, 2), filters=8, dropout=0.0)


@functools.cache
def players(dropout: float) -> dict[str, Any]:
    return {
        "gpt": build_generator(TransformerConfig(**SIZES, dropout=dropout), VOCABULARY),
        "adapted": build_generator(TransformerConfig(**SIZES, dropout=dropout, lora=LoraConfig(rank=2)), VOCABULARY),
        "lstm": build_generator(LstmConfig(embedding=8, hidden=8, dropout=dropout), VOCABULARY),
        "leakgan": build_generator(LeakganConfig(embedding=8, units=8, goal=4, horizon=2, leaked=LEAKED), VOCABULARY),
        "twin": build_discriminator(TransformerDiscriminatorConfig(**SIZES, dropout=dropout), VOCABULARY),
        "cnn": build_discriminator(dataclasses.replace(LEAKED, dropout=dropout), VOCABULARY),
        "linear": build_discriminator(LinearConfig(embedding=8), VOCABULARY),
    }


def methods(axis_name: str | None, dropout: float = 0.0) -> dict[str, Gan]:
    """Every part of a step that looks at more than one row."""
    of = players(dropout)
    with_axis = functools.partial(gan_from, axis_name=axis_name, **OPTIMIZERS)
    whole = functools.partial(with_axis, dense=False)
    return {
        "dense, learned value, KL, entropy, next token, R1, R2": with_axis(
            of["gpt"], of["twin"], estimator=reinforce(0.5, learned_value()), kl_weight=0.3, entropy_weight=0.2,
            next_token_weight=0.5, r1_weight=0.1, r2_weight=0.2,
        ),
        "relative reward, KL in the reward, leave one out": whole(
            of["gpt"], of["cnn"], estimator=rloo(2), pair_loss=relativistic, reward=rewards.relative(rewards.logit),
            kl_weight=0.4, kl_estimator="reward", temperature=0.7,
        ),
        "groups, minibatches, replay, average, demonstrations, updates": whole(
            of["gpt"], of["linear"], estimator=grpo(2, minibatches=2), discriminator_updates=2, replay_size=32,
            ema_decay=0.9, demonstrations=Demonstrations(0.5, 1.0, 10),
        ),
        "groups whose prompts are read once, KL": with_axis(
            of["gpt"], of["twin"], estimator=grpo(3), kl_weight=0.3, kl_estimator="low_variance",
        ),
        "epochs, ties, rank": whole(
            of["lstm"], of["cnn"], estimator=ppo(epochs=2, ratio="sequence"), pair_loss=relativistic_tie,
            reward=rewards.ranked(),
        ),
        "rollouts, pair probability": whole(
            of["lstm"], of["linear"], estimator=rollout(2), reward=rewards.pair_probability
        ),
        "goals, rollouts, likelihood": whole(
            of["leakgan"], of["cnn"], estimator=guided(2, 0.5, rescale=0.0), likelihood_weight=0.2,
        ),
        "weights of the batch, random reward": whole(
            of["lstm"], of["linear"], estimator=maligan(), reward=rewards.random
        ),
        "gradient penalty": with_axis(
            of["lstm"], of["cnn"], pair_loss=wasserstein, reward=rewards.logit, gradient_penalty_weight=0.3,
            estimator=reinforce(0.9),
        ),
        "self-play, adapters": with_axis(
            of["adapted"], of["linear"], estimator=spin(refresh_every=2),
            start=of["gpt"].init(jax.random.key(3), batch_of()),
        ),
        "text rewards of the host, groups drawn again": whole(
            of["lstm"], of["linear"], estimator=grpo(2), reward_scaling="group", resample_groups=2,
            discriminator_reward_weight=0.5, text_rewards=[
                TextReward("sums", host_reward(sums, spelt), 0.7, linear_schedule(1.0, 0.0, 10)),
                TextReward("tokens", host_reward(places, spelt, per_token=True), -0.3),
                TextReward("jax", lambda written, batch: written.mask.sum(axis=1).astype(jnp.float32), 0.1),
            ],
        ),
        "relaxed": with_axis(of["gpt"], of["cnn"], estimator=gumbel(0.7)),
    }  # fmt: skip


def spelt(ids: list[int]) -> str:
    return " ".join(map(str, ids))


def sums(texts: list[str], prompts: list[str], references: list[str]) -> list[float]:
    """Something of all that belongs to a text's row, by which any mix-up of rows would show."""
    return [
        sum(map(int, text.split())) % 3 + 0.1 * len(prompt) + 0.01 * len(real)
        for text, prompt, real in zip(texts, prompts, references, strict=True)
    ]


def places(texts: list[str], tokens: list[list[int]]) -> list[list[float]]:
    return [[float(token % 4 == i % 4) for i, token in enumerate(ids)] for ids in tokens]


IN_ALL_MESHES = "groups, minibatches, replay, average, demonstrations, updates"
QUICK = ("dense, learned value, KL, entropy, next token, R1, R2", IN_ALL_MESHES)
"""Most of what looks at several rows; the others take two minutes more."""
DRAWS_TOO_MANY_NUMBERS = ("relaxed",)
"""Whose noise is a device's own under pmap; under jit it is not."""


def state_of(gan: Gan, batch: Batch) -> GanState:
    """A state at step 5 and away from its reference."""
    shapes = jax.eval_shape(gan.init, jax.random.key(0), batch)
    player_g = Player(random_params(shapes.generator.params, seed=1), None)
    player_d = Player(random_params(shapes.discriminator.params, seed=2), None)
    state = gan.begin(
        shapes.replace(step=jnp.int32(5), key=jax.random.key(3), generator=player_g, discriminator=player_d), batch
    )
    return state if state.reference is None else state.replace(reference=random_params(state.reference, seed=7))


def batch_for_eight() -> Batch:
    return batch_of(prompts=(2, 3, 1, 2) * 8, targets=(4, 2, 3, 4, 1, 4, 4, 2) * 4, seed=4)


LENGTH = 4
"""Of the targets of that batch, in tokens."""


def after(step: Callable, state: GanState, batch: Batch) -> Any:
    return jax.device_get(without_key(jax.jit(step)(state, batch)))


def without_key(result: Any) -> Any:
    state, metrics = result
    return state.replace(key=None), metrics


def close(many: Any, one: Any, what: str) -> None:
    # Of untrained judgements some are equal but for rounding, which then decides who is counted.
    for name, few in (("discriminator_accuracy", 0.02), ("prompt_accuracy", 0.06)):
        accuracies = [metrics.get(name, 0.0) for _, metrics in (many, one)]
        assert abs(accuracies[0] - accuracies[1]) < few, f"{what}: {name} {accuracies}"
        many, one = ((state, metrics | {name: np.float32(0)}) for state, metrics in (many, one))
    try:
        assert_trees_close(many, one, rtol=1e-3, atol=2e-5)
    except AssertionError as error:
        raise AssertionError(f"{what}: {error}") from None


def under_jit(quick: bool) -> None:
    """In a process with eight devices: the quick methods or the others with dropout, on one device and on a mesh."""
    assert jax.device_count() == 8
    batch = batch_for_eight()
    for number, (name, gan) in enumerate(methods(None, dropout=0.3).items()):
        if (name in QUICK) != quick:
            continue
        state = state_of(gan, batch)
        one = after(gan.adversarial_step, state, batch)
        assert_trees_differ(one[0].generator.params, state.generator.params)
        # Each method on one mesh, and one of them on all.
        for mesh_name in MESHES if name == IN_ALL_MESHES else [list(MESHES)[number % len(MESHES)]]:
            placement = Placement(build_mesh(MeshConfig(**MESHES[mesh_name])))
            spread = jax.device_put(state, placement.shardings(state))
            with jax.set_mesh(placement.mesh):
                place = (placement.shardings(state), jax.NamedSharding(placement.mesh, P()))
                step = jax.jit(gan.adversarial_step, out_shardings=place)
                many = step(spread, placement.put(batch))
            assert jax.tree.leaves(many[0].generator.params)[0].sharding.device_set == set(jax.devices())
            close(jax.device_get(without_key(many)), one, f"{name}, {mesh_name}")


def under_shard_map(quick: bool) -> None:
    """In a process with eight devices: the same without dropout, as user code would run it, and one under pmap."""
    batch = batch_for_eight()
    mesh = jax.make_mesh((8,), ("mine",), axis_types=(jax.sharding.AxisType.Auto,))
    alone, apart = methods(None), methods("mine")
    for name in alone:
        if (name in QUICK) != quick or name in DRAWS_TOO_MANY_NUMBERS:
            continue
        state = state_of(alone[name], batch)
        for step in ("likelihood_step", "discriminator_step", "adversarial_step")[0 if name == IN_ALL_MESHES else 2 :]:
            one = after(getattr(alone[name], step), state, batch)
            mapped = jax.shard_map(
                getattr(apart[name], step), mesh=mesh, in_specs=(P(), P("mine")), out_specs=P(), check_vma=False
            )
            close(after(mapped, state, batch), one, f"{name}, {step} under shard_map")
    if quick:
        pmapped(batch)


def pmapped(batch: Batch) -> None:
    """Two steps of the program's own pmap backend, whose state is donated."""
    name = IN_ALL_MESHES
    placement = Placement(build_mesh(MeshConfig()), "pmap")
    state = state_of(methods(None)[name], batch)
    alone = jax.jit(methods(None)[name].adversarial_step)
    one = jax.device_get(without_key(alone(alone(state, batch)[0], batch)))
    step = placement.compiled(methods(PMAP_AXIS)[name].adversarial_step, state)
    many = jax.device_put(state, placement.shardings(state))
    for _ in range(2):
        many, metrics = step(many, placement.put(batch))
    close(jax.device_get(without_key((many, metrics))), one, "pmap")


def writing() -> None:
    """In a process with eight devices: texts and rollouts of scanned layers, weights gathered for both once or not."""
    sizes = SIZES | {"layers": 2, "scan_layers": True, "tied_embeddings": False}
    once = build_generator(TransformerConfig(**sizes), VOCABULARY)
    batch = batch_for_eight()
    params = random_params(jax.eval_shape(once.init, jax.random.key(0), batch), seed=1)

    def written(generator: Generator, params: Any, batch: Batch) -> Any:
        texts = sample(generator, params, jax.random.key(1), batch.prompt, batch.prompt_mask, LENGTH)
        return texts.tokens, texts.mask

    def continued(generator: Generator, params: Any, batch: Batch) -> Any:
        texts = Sample(batch.target, batch.target_mask, jnp.zeros(batch.target.shape))
        key, prompts, value = jax.random.key(2), (batch.prompt, batch.prompt_mask), lambda k, x, *_: x.mean(axis=1)
        return rollout_values(generator, params, key, *prompts, texts, 2, value)

    for function in (written, continued):
        alone = jax.jit(functools.partial(function, once))(params, batch)
        for name in ("fsdp", "mixed"):
            placement = Placement(build_mesh(MeshConfig(**MESHES[name])))
            arguments = jax.device_put(params, placement.shardings(params)), placement.put(batch)
            gathers = {}
            for generator in (once, once._replace(for_writing=lambda params: params)):
                with jax.set_mesh(placement.mesh):
                    step = jax.jit(functools.partial(function, generator))
                    compiled = step.lower(*arguments).compile()
                    np.testing.assert_allclose(
                        jnp.stack(jax.tree.leaves(compiled(*arguments))), jnp.stack(jax.tree.leaves(alone)), rtol=1e-5
                    )
                sent = collectives_of(compiled.as_text(), 8, LENGTH - 1)
                gathers[generator] = [x.total for x in sent if x.kind == "all-gather" and x.times > 1]
            each = gathers.pop(once)
            # On the mesh with `tensor` the logits of a token are still put together, as are its heads.
            assert sum(each) <= (0 if name == "fsdp" else 0.1 * sum(*gathers.values())), (function, name, each)


def attending() -> None:
    """In a process with eight devices: attention that no compiler can split, alone and in scanned blocks."""
    rng = np.random.default_rng(0)
    arrays = [jnp.asarray(rng.normal(size=size), jnp.float32) for size in ((8, 130, 2, 2, 4), *[(8, 2, 130, 4)] * 2)]
    tokens = jnp.asarray(rng.random((8, 130)) < 0.9)

    def gradients(arrays: Any, tokens: Any) -> Any:
        return jax.grad(lambda parts: (flash_attend(*parts, tokens) ** 2).sum())(arrays)

    config = TransformerConfig(
        **SIZES | {"max_positions": 160, "head_width": 8},
        dtype="bfloat16",
        attention="flash",
        remat=True,
        scan_layers=True,
    )
    generator = build_generator(config, VOCABULARY)
    batch = batch_of(prompts=tuple(range(1, 9)), targets=tuple(range(121, 129)), length=128)
    params = random_params(jax.eval_shape(generator.init, jax.random.key(0), batch), seed=1)

    def network(params: Any, batch: Batch) -> Any:
        return jax.grad(lambda p: generator.logits(p, batch).max())(params)

    one = jax.jit(gradients)(arrays, tokens)
    for name in ("fsdp", "mixed"):
        placement = Placement(build_mesh(MeshConfig(**MESHES[name])))
        arguments = jax.device_put(params, placement.shardings(params)), placement.put(batch)
        with jax.set_mesh(placement.mesh):
            for a, b in zip(jax.jit(gradients)(arrays, tokens), one, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5, err_msg=name)
            assert "shard_map" in str(jax.make_jaxpr(network)(*arguments))
            assert all(np.isfinite(x).all() for x in jax.tree.leaves(jax.jit(network)(*arguments)))


def validating() -> None:
    """In a process with eight devices: a run's validation, lowered for TPUs as those of `train` would do it."""
    network = {"layers": 1, "width": 16, "heads": 2, "max_positions": 140, "dtype": "bfloat16", "attention": "flash"}
    changes: dict[str, Any] = {f"generator.{name}": value for name, value in network.items()}
    changes |= {f"discriminator.{name}": value for name, value in network.items()}
    changes |= {"discriminator.kind": "transformer", "discriminator.embedding": None, "data.max_length": 130}
    changes |= {"mesh.data": 1, "mesh.fsdp": 8, "likelihood.steps": 1, "continued.steps": 0, "adversarial.steps": 1}
    lowered: list[bool] = []
    compile_and_run = jax.jit

    def jit(function: Any, **options: Any) -> Any:
        compiled = compile_and_run(function, **options)
        if getattr(function, "__name__", "") != "text_sums":
            return compiled

        def noted(*arguments: Any) -> Any:
            program = compiled.trace(*arguments).lower(lowering_platforms=("tpu",))
            lowered.append("tpu_custom_call" in program.as_text())
            return compiled(*arguments)

        return noted

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        experiment, run_folder = tiny_experiment(Path(folder), changes)
        patch.setattr(jax, "jit", jit)
        train(experiment, run_folder, lambda line: None)
    assert lowered
    assert all(lowered)


def in_eight_devices(work: str) -> None:
    """Runs a function of this file in a process of its own."""
    here = Path(__file__).resolve()
    paths = [str(here.parents[2]), str(here.parents[1]), str(here.parent), os.environ.get("PYTHONPATH", "")]
    # Eight devices that share two cores may begin independent collectives in different orders, and then all of them
    # wait for ever; the second flag keeps one order. Real devices have no such trouble.
    flags = {
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8 "
        "--xla_cpu_enable_concurrency_optimized_scheduler=false",
        "JAX_PLATFORMS": "cpu",
    }
    environment = os.environ | flags | {"PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-c", f"import test_sharding; test_sharding.{work}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.always
@pytest.mark.thorough
@pytest.mark.parametrize("quick", [True, pytest.param(False, marks=pytest.mark.exhaustive)])
def test_every_mesh_gives_the_update_of_one_device_dropout_included(quick: bool) -> None:
    in_eight_devices(f"under_jit({quick})")


@pytest.mark.thorough
@pytest.mark.parametrize("quick", [True, pytest.param(False, marks=pytest.mark.exhaustive)])
def test_pmap_and_shard_map_give_the_update_of_one_device(quick: bool) -> None:
    in_eight_devices(f"under_shard_map({quick})")


@pytest.mark.exhaustive
@pytest.mark.parametrize("work", ["attending()", "validating()"])
def test_each_device_attends_to_its_own_texts_and_heads(work: str) -> None:
    in_eight_devices(work)


# ---- writing


@pytest.mark.thorough
def test_while_text_is_written_no_weights_are_gathered_and_it_is_that_of_one_device() -> None:
    in_eight_devices("writing()")


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", ["gpt", "adapted", "lstm", "encoder"])
def test_what_is_cast_before_it_is_gathered_the_network_would_cast_itself(name: str) -> None:
    """Equal to the bit: to round a weight twice is to round it once, but a norm or a bias of logits is not rounded."""
    shape: dict[str, Any] = {"dtype": "bfloat16", "tied_embeddings": False}
    adapters = LoraConfig(rank=2)
    generator = build_generator(
        {
            "gpt": TransformerConfig(**SIZES, dtype="bfloat16", scan_layers=True),
            "adapted": TransformerConfig(**SIZES, **shape, lora=adapters, norm="rms", activation="swiglu"),
            "lstm": LstmConfig(embedding=8, hidden=8, dtype="bfloat16", lora=adapters),
            "encoder": TransformerConfig(**SIZES, **shape, encoder_layers=1, positions="rotary", qk_norm=True),
        }[name],
        VOCABULARY,
    )
    batch = batch_of()
    params = random_params(jax.eval_shape(generator.init, jax.random.key(0), batch), seed=1)
    mesh = jax.sharding.AbstractMesh((1, 2, 2), ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3)
    with jax.sharding.use_abstract_mesh(mesh):
        asked = jax.eval_shape(generator.for_writing, params)
    cast = jax.tree.map(lambda x, like: x.astype(like.dtype), params, asked)
    kinds = {path_name(path): x.dtype for path, x in jax.tree.leaves_with_path(cast)}
    assert sum(kind == jnp.bfloat16 for kind in kinds.values()) >= 4

    def logits(params: Any) -> Any:
        first, cache = generator.prefill(params, batch.prompt, batch.prompt_mask, 3)
        return first, generator.decode(params, cache, batch.target[:, 0])[0]

    for one, other in zip(jax.jit(logits)(params), jax.jit(logits)(cast), strict=True):
        np.testing.assert_array_equal(one, other)


def test_on_one_device_and_without_fsdp_nothing_is_gathered() -> None:
    params = {"qkv": {"kernel": jnp.ones((8, 8))}}
    assert gathered(params, jnp.bfloat16) is params
    for sizes in ((1, 1, 1), (4, 1, 2)):
        mesh = jax.sharding.AbstractMesh(sizes, ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3)
        with jax.sharding.use_abstract_mesh(mesh):
            assert gathered(params, jnp.bfloat16) is params


@pytest.mark.parametrize("once", [True, False])
def test_a_run_gathers_to_write_unless_it_is_told_not_to(tmp_path: Path, once: bool) -> None:
    experiment, _ = tiny_experiment(tmp_path, {"mesh.gather_to_write": once})
    params = {"qkv": {"kernel": jnp.ones((8, 8))}}
    mesh = jax.sharding.AbstractMesh((1, 2, 1), ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3)
    with jax.sharding.use_abstract_mesh(mesh):
        jaxpr = jax.make_jaxpr(experiment.generator.for_writing)(params)
    assert ("sharding_constraint" in str(jaxpr)) == once


# ---- the table and the mesh


def abstract(**sizes: int) -> Any:
    return jax.sharding.AbstractMesh((1, 1, 1) if not sizes else tuple(sizes.values()), ("data", "fsdp", "tensor"))


def specs_of(config: Any, mesh: Any) -> dict[str, Any]:
    """Of a whole state with Adam's moments, by path."""
    generator = build_generator(config, VOCABULARY)
    judge = build_discriminator(TransformerDiscriminatorConfig(**SIZES), VOCABULARY)
    gan = gan_of(Game(generator, judge, kl_weight=0.1, ema_decay=0.9))  # whose state is a shape: no start
    batch = batch_of()
    state = jax.eval_shape(lambda: gan.begin(gan.init(jax.random.key(0), batch), batch))
    shardings = state_shardings(state, mesh)
    return {jax.tree_util.keystr(path): x.spec for path, x in jax.tree.leaves_with_path(shardings)}


@pytest.mark.parametrize("scanned", [False, True])
def test_parameters_moments_average_and_reference_of_both_players_are_split_alike(scanned: bool) -> None:
    specs = specs_of(TransformerConfig(**SIZES, scan_layers=scanned), abstract(data=1, fsdp=2, tensor=2))
    lead = (None,) if scanned else ()
    name = "['blocks']" if scanned else "['block_0']"
    up = f"['trunk']['decoder']{name}['mlp']['up']['kernel']"
    assert len([path for path in specs if path.endswith(up)]) == (5 if scanned else 8)
    for path, spec in specs.items():
        if path.endswith(up):
            assert spec == P(*lead, ("fsdp",), ("tensor",)), path
        if path.endswith(up.replace("['mlp']['up']", "['attention']['out']")):
            assert spec == P(*lead, ("tensor",), ("fsdp",)), path
        if path.endswith("['scale']") or ".step" in path or "count" in path:
            assert spec == P(), path


@pytest.mark.parametrize("scanned", [False, True])
def test_adapters_are_split_as_the_matrix_beside_them_and_never_by_their_rank(scanned: bool) -> None:
    lora = LoraConfig(rank=4)
    specs = specs_of(TransformerConfig(**SIZES, scan_layers=scanned, lora=lora), abstract(data=1, fsdp=2, tensor=2))
    lead = (None,) if scanned else ()
    for matrix, (inputs, outputs) in {
        "['qkv']": (("fsdp",), ("tensor",)), "['out']": (("tensor",), ("fsdp",)), "['up']": (("fsdp",), ("tensor",)),
        "['down']": (("tensor",), ("fsdp",)),
    }.items():  # fmt: skip
        a = {spec for path, spec in specs.items() if path.endswith(f"{matrix}['lora_a']")}
        b = {spec for path, spec in specs.items() if path.endswith(f"{matrix}['lora_b']")}
        assert (a, b) == ({P(*lead, inputs, None)}, {P(*lead, None, outputs)}), matrix


def test_the_largest_arrays_are_all_split_and_by_no_axis_that_does_not_divide_them() -> None:
    """Vocabulary 7 is odd: the table is split by its width alone."""
    specs = specs_of(TransformerConfig(**SIZES), abstract(data=1, fsdp=4, tensor=2))
    assert {spec for path, spec in specs.items() if path.endswith("['embedding']['table']")} == {P(None, ("fsdp",))}
    mesh = abstract(data=1, fsdp=3, tensor=5)
    assert set(specs_of(TransformerConfig(**SIZES), mesh).values()) <= {P(), P(None, None), P(None)}


@dataclasses.dataclass(frozen=True)
class Tpu:
    """A TPU as a mesh sees it."""

    id: int
    coords: tuple[int, int, int]
    slice_index: int
    process_index: int
    platform: str = "tpu"
    device_kind: str = "TPU v5 lite"
    core_on_chip: int = 0


def slices_of_four(count: int) -> list[Any]:
    """2 x 2 TPUs of each slice."""
    return [Tpu(4 * i + 2 * y + x, (x, y, 0), i, i) for i, y, x in np.ndindex(count, 2, 2)]


@pytest.mark.parametrize("sizes", [{"data": -1}, {"data": 2, "fsdp": 4}, {"data": -1, "fsdp": 2, "tensor": 2}])
def test_slices_are_apart_along_data(sizes: dict[str, int]) -> None:
    mesh = build_mesh(MeshConfig(**sizes), slices_of_four(2))
    found = np.vectorize(lambda device: device.slice_index)(mesh.devices)
    half = mesh.shape["data"] // 2
    assert (found[:half] == 0).all()
    assert (found[half:] == 1).all()


def test_slices_that_data_does_not_go_over_are_refused() -> None:
    with pytest.raises(UserError, match=r"mesh.data 1: 2 slices are connected only by .* it should be a multiple of 2"):
        build_mesh(MeshConfig(data=1, fsdp=8), slices_of_four(2))


def test_a_kernel_that_the_table_does_not_name_is_split_by_its_width() -> None:
    path = (jax.tree_util.DictKey("hidden_0"), jax.tree_util.DictKey("kernel"))
    assert spec_of(path, (8, 6), abstract(data=2, fsdp=4, tensor=1)) == P(("fsdp",), None)


@pytest.mark.parametrize(
    ("sizes", "shape"),
    [
        ({}, (8, 1, 1)),
        ({"fsdp": 4}, (2, 4, 1)),
        ({"data": 1, "fsdp": -1, "tensor": 2}, (1, 4, 2)),
        ({"data": 2, "fsdp": 2, "tensor": 2}, (2, 2, 2)),
    ],
)
def test_a_mesh_has_all_devices(sizes: dict[str, int], shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(jax, "make_mesh", lambda shape, names, **_: made.append((shape, names)))
    build_mesh(MeshConfig(**sizes), jax.devices()[:1] * 8)
    assert made == [(shape, ("data", "fsdp", "tensor"))]


@pytest.mark.parametrize("sizes", [{"data": 3}, {"fsdp": 16}, {"data": 2, "fsdp": 2}, {"tensor": 3}])
def test_sizes_that_do_not_fit_the_devices_are_refused(sizes: dict[str, int]) -> None:
    with pytest.raises(UserError, match=r"mesh: .* does not fit 8 device\(s\)"):
        build_mesh(MeshConfig(**sizes), jax.devices()[:1] * 8)


@pytest.mark.parametrize(
    "keys", [{"data": 0}, {"data": -1, "fsdp": -1}, {"backend": "pmap", "fsdp": 2}, {"backend": "pmap", "tensor": 2}]
)
def test_a_mesh_that_makes_no_sense_is_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="fsdp"):
        MeshConfig(**keys)


def test_rows_that_can_not_be_split_are_refused_with_the_next_number_that_can() -> None:
    placement = Placement(abstract(data=2, fsdp=2, tensor=2))
    placement.check_batch_size("likelihood.batch_size", 8)
    with pytest.raises(UserError, match=r"likelihood.batch_size 6 is not a multiple of the 4 devices.*try 8"):
        placement.check_batch_size("likelihood.batch_size", 6)


def test_a_state_is_made_where_it_lies() -> None:
    gan = methods(None)["self-play, adapters"]
    placement = Placement(build_mesh(MeshConfig()))
    state = placement.born(gan.init, jax.random.key(0), batch_of())
    assert jax.tree.leaves(jax.tree.map(lambda x, place: x.sharding == place, state, placement.shardings(state)))
    np.testing.assert_array_equal(state.step, 0)


def test_under_pmap_every_minibatch_must_be_split_evenly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two texts a minibatch on four devices would end in a traceback."""
    keys = {"objective.estimator.kind": "ppo", "objective.estimator.minibatches": 4, "mesh.backend": "pmap"}
    experiment, folder = tiny_experiment(tmp_path, keys)
    monkeypatch.setattr(Placement, "of", lambda config: Placement(abstract(data=4, fsdp=1, tensor=1), config.backend))
    with pytest.raises(UserError, match=r"minibatch of adversarial.batch_size.* 2 is not a multiple of the 4 devices"):
        Run(experiment, folder, lambda line: None).check_resources()
    assert not folder.path.exists()
