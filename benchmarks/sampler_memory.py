"""Memory that sampling takes on a TPU by its compiler's account; no TPU is needed, and nothing is run.

    python benchmarks/sampler_memory.py --topology v5e:1x1 --rows 64 8

A GPT of GPT-2's width in bfloat16, which writes texts of 512 tokens; minutes for each number of rows. Needs libtpu.
"""

import argparse

import jax
import jax.numpy as jnp

import gptgan_jax as gg
from gptgan_jax.compiling.chips import load_slice
from gptgan_jax.distributed.partitioning import MeshConfig, build_mesh


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--topology", default="v5e:1x1")
    parser.add_argument("--rows", nargs="+", type=int, default=[64, 8])
    for name, value in (("layers", 2), ("heads", 12), ("head_width", 64), ("length", 512), ("vocabulary", 50257)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    mesh = build_mesh(MeshConfig(), load_slice(options.topology).devices)
    print("| rows | keys and values (MiB) | temporaries (MiB) |\n|---:|---:|---:|")
    for rows in options.rows:
        kept = 4 * options.layers * rows * options.heads * options.length * options.head_width / 2**20
        print(f"| {rows} | {kept:,.0f} | {temporaries(mesh, rows, options) / 2**20:,.1f} |", flush=True)


def temporaries(mesh: jax.sharding.Mesh, rows: int, options: argparse.Namespace) -> int:
    """Bytes of a device that live only while texts are written."""
    config = gg.TransformerConfig(
        layers=options.layers,
        width=options.heads * options.head_width,
        heads=options.heads,
        max_positions=2 * options.length,
        dtype="bfloat16",
    )
    generator = gg.build_generator(config, gg.Vocabulary(options.vocabulary))
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())

    def placed(shape: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=everywhere)

    prompt = jnp.ones((1, 1), jnp.int32)
    target = jnp.ones((1, options.length), jnp.int32)
    batch = gg.Batch(prompt, prompt > 0, target, target > 0, jnp.zeros(1, jnp.int32))
    key = jax.eval_shape(lambda: jax.random.key(0))
    params = jax.eval_shape(generator.init, key, batch)
    begun = jax.ShapeDtypeStruct((rows, 1), jnp.int32), jax.ShapeDtypeStruct((rows, 1), bool)
    with jax.set_mesh(mesh):
        lowered = jax.jit(
            lambda params, key, prompt, mask: gg.sample(generator, params, key, prompt, mask, options.length)
        ).lower(*jax.tree.map(placed, (params, key, *begun)))
        return lowered.compile().memory_analysis().temp_size_in_bytes


if __name__ == "__main__":
    main()
