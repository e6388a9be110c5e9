"""Memory of single parts of a program on a TPU, by the compiler's analysis; no TPU is needed, and nothing is run.

    python benchmarks/compiled_memory.py sampler --rows 64 8    # a GPT that generates 512 tokens; minutes for each
    python benchmarks/compiled_memory.py loss                   # the output layer's cross-entropy and its gradient
    python benchmarks/compiled_memory.py draw                   # one token per row from logits

At GPT-2's width in bfloat16. Needs libtpu.
"""

import argparse
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import gptgan_jax as gg
from gptgan_jax.compiling.chips import load_slice
from gptgan_jax.distributed.partitioning import MeshConfig, build_mesh
from gptgan_jax.layers.chunked_likelihood import weighted_nats
from gptgan_jax.sampling.categorical import draw_tokens

Loss = Callable[..., jax.Array]
CHUNKS = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("part", choices=["sampler", "loss", "draw"])
    parser.add_argument("--topology", default="v5e:1x1")
    parser.add_argument("--rows", nargs="+", type=int, help="texts; default: 64 8, of the loss 8")
    parser.add_argument("--length", type=int, help="tokens of a text; default: 512, of the loss 1024")
    for name, value in (("layers", 2), ("heads", 12), ("head_width", 64), ("vocabulary", 50257)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    options.rows = options.rows or ([8] if options.part == "loss" else [64, 8])
    options.length = options.length or (1024 if options.part == "loss" else 512)
    mesh = build_mesh(MeshConfig(), load_slice(options.topology).devices)
    {"sampler": sampler, "loss": loss, "draw": draw}[options.part](mesh, options)


def compiled(mesh: jax.sharding.Mesh, function: Callable[..., Any], *arguments: Any) -> jax.stages.Compiled:
    """Compiles a function for one device of the slice, given the shapes of its arguments."""
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())

    def placed(shape: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=everywhere)

    with jax.set_mesh(mesh):
        return jax.jit(function).lower(*jax.tree.map(placed, arguments)).compile()


def temporaries(program: jax.stages.Compiled) -> int:
    """Bytes of the program's temporaries."""
    found = program.memory_analysis()
    assert found is not None
    return found.temp_size_in_bytes


def accessed(program: jax.stages.Compiled) -> float:
    """Bytes that the program reads and writes; the body of a loop counts once."""
    found = program.cost_analysis()
    assert found is not None
    return found["bytes accessed"]


# ---- the sampler


def sampler(mesh: jax.sharding.Mesh, options: argparse.Namespace) -> None:
    config = gg.TransformerConfig(
        layers=options.layers,
        width=options.heads * options.head_width,
        heads=options.heads,
        max_positions=2 * options.length,
        dtype="bfloat16",
    )
    generator = gg.build_generator(config, gg.Vocabulary(options.vocabulary))
    prompt, target = jnp.ones((1, 1), jnp.int32), jnp.ones((1, options.length), jnp.int32)
    batch = gg.Batch(prompt, prompt > 0, target, target > 0, jnp.zeros(1, jnp.int32))
    key = jax.eval_shape(lambda: jax.random.key(0))
    params = jax.eval_shape(generator.init, key, batch)

    def generate(params: Any, key: jax.Array, prompt: jax.Array, mask: jax.Array) -> gg.Sample:
        return gg.sample(generator, params, key, prompt, mask, options.length)

    print("| rows | keys and values (MiB) | temporaries (MiB) |\n|---:|---:|---:|")
    for rows in options.rows:
        begun = jax.ShapeDtypeStruct((rows, 1), jnp.int32), jax.ShapeDtypeStruct((rows, 1), bool)
        kept = 4 * options.layers * rows * options.heads * options.length * options.head_width / 2**20
        taken = temporaries(compiled(mesh, generate, params, key, *begun)) / 2**20
        print(f"| {rows} | {kept:,.0f} | {taken:,.1f} |", flush=True)


# ---- the loss


def loss(mesh: jax.sharding.Mesh, options: argparse.Namespace) -> None:
    width = options.heads * options.head_width
    print("| rows | cross-entropy | temporaries (MB) |\n|---:|---|---:|")
    for rows in options.rows:
        tokens = rows, options.length
        hidden = jax.ShapeDtypeStruct((*tokens, width), jnp.bfloat16)
        kernel = jax.ShapeDtypeStruct((width, options.vocabulary), jnp.float32)
        targets, weights = jax.ShapeDtypeStruct(tokens, jnp.int32), jax.ShapeDtypeStruct(tokens, jnp.float32)
        for name, of in LOSSES.items():
            step = jax.value_and_grad(of, argnums=(0, 1))
            taken = temporaries(compiled(mesh, step, hidden, kernel, targets, weights)) / 1e6
            print(f"| {rows} | {name} | {taken:,.1f} |", flush=True)


def ours(hidden: jax.Array, kernel: jax.Array, targets: jax.Array, weights: jax.Array) -> jax.Array:
    return weighted_nats(hidden, kernel, None, targets, weights, jnp.dtype(jnp.bfloat16))


def gathered(hidden: jax.Array, kernel: jax.Array, targets: jax.Array, weights: jax.Array) -> jax.Array:
    log_probs = jax.nn.log_softmax(logits_of(hidden, kernel))
    return -(weights * jnp.take_along_axis(log_probs, targets[..., None], axis=-1)[..., 0]).sum()


def one_hot(hidden: jax.Array, kernel: jax.Array, targets: jax.Array, weights: jax.Array) -> jax.Array:
    log_probs = jax.nn.log_softmax(logits_of(hidden, kernel))
    return -(weights * (jax.nn.one_hot(targets, kernel.shape[1]) * log_probs).sum(axis=-1)).sum()


def checkpointed(hidden: jax.Array, kernel: jax.Array, targets: jax.Array, weights: jax.Array) -> jax.Array:
    @jax.checkpoint
    def chunk(total: jax.Array, given: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        x, target, weight = given
        return total + gathered(x, kernel, target, weight), None

    def chunks(x: jax.Array) -> jax.Array:
        return x.reshape(x.shape[0], CHUNKS, -1, *x.shape[2:]).swapaxes(0, 1)

    return jax.lax.scan(chunk, jnp.float32(0), (chunks(hidden), chunks(targets), chunks(weights)))[0]


def logits_of(hidden: jax.Array, kernel: jax.Array) -> jax.Array:
    return jnp.matmul(hidden, kernel.astype(hidden.dtype), preferred_element_type=jnp.float32)


LOSSES: dict[str, Loss] = {
    "gptgan_jax, in parts": ours,
    "log-softmax, `take_along_axis`": gathered,
    "log-softmax, `one_hot`": one_hot,
    f"{CHUNKS} chunks, `jax.checkpoint`": checkpointed,
}


# ---- drawing


def draw(mesh: jax.sharding.Mesh, options: argparse.Namespace) -> None:
    def categorical(key: jax.Array, logits: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jax.random.categorical(key, logits), jax.nn.logsumexp(logits, axis=-1)

    def inverse(key: jax.Array, logits: jax.Array) -> tuple[jax.Array, jax.Array]:
        return draw_tokens(jax.random.uniform(key, (2, logits.shape[0])), logits)

    print("| rows | drawing | logits (MB) | accessed (MB) | temporaries (MB) |\n|---:|---|---:|---:|---:|")
    key = jax.eval_shape(lambda: jax.random.key(0))
    for rows in options.rows:
        logits = jax.ShapeDtypeStruct((rows, options.vocabulary), jnp.float32)
        for name, function in (("gptgan_jax", inverse), ("`jax.random.categorical`", categorical)):
            program = compiled(mesh, function, key, logits)
            sizes = 4 * rows * options.vocabulary, accessed(program), temporaries(program)
            print(f"| {rows} | {name} | {' | '.join(f'{size / 1e6:.1f}' for size in sizes)} |", flush=True)


if __name__ == "__main__":
    main()
