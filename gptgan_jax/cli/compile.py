"""The command `gptgan compile`."""

import sys
import time
from collections.abc import Sequence

from gptgan_jax.cli.config_commands import ConfigCommand, Flag, Given
from gptgan_jax.config import Config
from gptgan_jax.config.files import load_config
from gptgan_jax.errors import UserError
from gptgan_jax.system.native_log import native_log_in
from gptgan_jax.system.terminal import cache_folder, say

_DESCRIPTION = """
Lowers and compiles every step of the run and its sampler for a slice of TPUs, without a TPU. For each device it prints
memory (by what it holds, and what HBM allows), FLOP, collectives with their bytes, and the time of a step at the chip's
published speed. With several topologies it also prints their times side by side. Text is read only if the config has no
vocab_size. The TPU compiler is needed: pip install "jax[tpu]".

CHIP is v5e, v5p, v6e or tpu7x, and SHAPE the number of chips along each dimension: v5e:2x4 is rented as v5litepod-8,
v5e:16x16 is v5litepod-256, v5p:2x4x4 is v5p-64 (64 TensorCores on 32 chips), tpu7x:2x2x1 is 8 devices on 4 chips, and
2xv5e:2x4 is two slices joined by the data centre's network, which mesh.data spans. Keys are those of gptgan train
--help; mesh.data, mesh.fsdp and mesh.tensor divide the work among the chips. The exit status is 1 if a program does
not fit."""
_TOPOLOGY = "--topology"


def _run(given: Given) -> int:
    """Returns 0 if all programs fit, 1 if one does not."""
    names = given.flags.get(_TOPOLOGY, ())
    if not names:
        raise UserError("--topology is missing: give the TPUs, such as --topology v5e:2x4; see gptgan compile --help")
    misfits = _compile(load_config(given.file, given.overrides), names)
    for line in misfits:
        print(f"gptgan: {given.file} does not fit {line}", file=sys.stderr)
    return 1 if misfits else 0


def _compile(config: Config, names: Sequence[str]) -> list[str]:
    """Prints the tables, and one line for each program that does not fit."""
    import jax

    native_log_in(cache_folder())
    # Chips of this machine are not used.
    jax.config.update("jax_platforms", "cpu")
    # The cache can store programs that were compiled without a device, but can't load them.
    jax.config.update("jax_enable_compilation_cache", False)

    from gptgan_jax.compiling.chips import load_slice
    from gptgan_jax.compiling.programs import Compiler, load_players
    from gptgan_jax.compiling.remarks import remarks
    from gptgan_jax.compiling.tables import Outlook, outlook_table, scaling_table

    slices = [load_slice(name) for name in names]
    players = load_players(config)
    for line in remarks(config):
        say(f"note: {line}")
    compilers = [Compiler(config, players, chips) for chips in slices]
    outlooks = []
    count, done = sum(len(compiler.names) for compiler in compilers), 0
    for chips, compiler in zip(slices, compilers, strict=True):
        programs = []
        for name in compiler.names:
            say(f"compiling {name} for {chips.name} ({done + 1} of {count})")
            begin = time.monotonic()
            programs.append(compiler.program(name))
            done += 1
            say(f"  {time.monotonic() - begin:.0f} s")
        outlooks.append(Outlook(chips, dict(compiler.mesh.shape), tuple(programs)))
        print(outlook_table(outlooks[-1]) + "\n", flush=True)
    if len(outlooks) > 1:
        print(scaling_table(outlooks) + "\n", flush=True)
    return [f"{outlook.chips.name}: {line}" for outlook in outlooks for line in outlook.misfits]


COMPILE = ConfigCommand(
    "compile",
    "compile a run for TPUs without having them: memory, FLOP, step time",
    _DESCRIPTION,
    (Flag(_TOPOLOGY, "the TPUs; may be repeated", "CHIP:SHAPE"),),
    _run,
    example="CONFIG --topology v5e:2x4",
)
