"""The sampler as StableHLO, by `jax.export`: a file that another version of JAX, or another program, can run.

The program takes its weights as an argument: they are in a safetensors file next to it, so the size of neither is
limited. It is exported for CPU, CUDA and TPU, and compiled when it is called.
"""

import importlib.util
from pathlib import Path

import jax
import numpy as np
from jax import export
from safetensors.numpy import save_file

from gptgan_jax.distributed.hosts import to_host
from gptgan_jax.errors import UserError
from gptgan_jax.export.sampler import PLATFORMS, arguments, sampler_of
from gptgan_jax.models.generators import Generator
from gptgan_jax.models.trees import flat
from gptgan_jax.system.atomic_files import write_whole
from gptgan_jax.types import Params

PROGRAM_FILE, WEIGHTS_FILE = "sampler.stablehlo", "weights.safetensors"
USE = f"""\
import numpy as np
from jax import export
from safetensors.numpy import load_file

sampler = export.deserialize(bytearray(open("{PROGRAM_FILE}", "rb").read()))
prompt = np.array([[BOS]], np.int32)  # any [B, P]; BOS, then what the texts begin with, padded on the left
written = sampler.call(
    load_file("{WEIGHTS_FILE}"), np.uint32(0), prompt, np.ones(prompt.shape, bool), np.float32(1.0)
)  # seed; mask of the prompt; temperature, 0 is greedy
print(written["tokens"], written["mask"], written["log_probs"])
"""


def check_available() -> None:
    """Raises UserError if a required package is not installed."""
    if importlib.util.find_spec("flatbuffers") is None:
        raise UserError("it needs the package flatbuffers: pip install flatbuffers")


def save_stablehlo(folder: Path, generator: Generator, params: Params, length: int) -> None:
    """Writes sampler.stablehlo and weights.safetensors.

    Args:
        folder: an existing folder.
        generator: the network.
        params: its parameters.
        length: T, the most tokens of a text.

    Raises:
        OSError: the files can't be written.
    """
    weights = flat(params)
    program = export.export(jax.jit(sampler_of(generator, length)), platforms=PLATFORMS)
    content = program(*arguments(generator, length, weights)).serialize()
    write_whole(folder / PROGRAM_FILE, content)
    save_file({name: np.ascontiguousarray(to_host(x)) for name, x in weights.items()}, folder / WEIGHTS_FILE)
