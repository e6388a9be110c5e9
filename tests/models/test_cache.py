"""Keys and values side by side, as they are kept on a TPU, or apart: nothing changes but where they lie."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import batch_of, generator_of
from jax.sharding import AbstractDevice, AbstractMesh, use_abstract_mesh

from gptgan_jax import TransformerConfig, sample
from gptgan_jax.distributed.partitioning import is_for_tpu
from gptgan_jax.models import cache as module
from gptgan_jax.models.cache import Cache, kept, keys_and_values, written
from gptgan_jax.sampling import decoding
from gptgan_jax.types import Sample


@pytest.mark.cases(1)
@pytest.mark.thorough
@pytest.mark.parametrize(("name", "samples"), [("grouped_queries_scanned", 3), ("encoder_decoder", 1)])
def test_the_same_texts_are_written(name: str, samples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    generator, params = generator_of(name)
    batch = batch_of(prompts=(1, 3, 2), targets=(4, 4, 4))

    def drawn() -> Sample:
        return sample(generator, params, jax.random.key(3), batch.prompt, batch.prompt_mask, 12, samples=samples)

    monkeypatch.setattr(decoding, "LEAST_STAGE", 6)  # so that a cache is given more room in between
    apart = drawn()
    monkeypatch.setattr(module, "is_for_tpu", lambda: True)
    _, cache = generator.prefill(params, batch.prompt, batch.prompt_mask, 4)
    assert isinstance(cache, Cache)
    assert isinstance(generator.config, TransformerConfig)
    assert all(x.shape[-1] == 2 * generator.config.head_size for x in jax.tree.leaves(cache.layers))
    beside = drawn()
    np.testing.assert_array_equal(beside.tokens, apart.tokens)
    np.testing.assert_allclose(beside.log_probs, apart.log_probs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("tpu", [False, True])
def test_what_is_written_is_read_and_the_other_slots_stay(tpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "is_for_tpu", lambda: tpu)
    keys, values = (jax.random.normal(jax.random.key(i), (2, 3, 5, 4)) for i in range(2))
    new = jnp.full((2, 3, 1, 4), 7.0)
    found = keys_and_values(written(kept(keys, values), new, -new, jnp.int32(2)))
    for x, before, entry in zip(found, (keys, values), (7.0, -7.0), strict=True):
        np.testing.assert_array_equal(x, before.at[:, :, 2].set(entry))


@pytest.mark.parametrize("platform", ["tpu", "cpu"])
def test_a_program_is_for_the_devices_of_its_mesh(platform: str) -> None:
    device = AbstractDevice(device_kind="a chip", num_cores=1, platform=platform)
    with use_abstract_mesh(AbstractMesh((1,), ("data",), abstract_device=device)):
        assert is_for_tpu() == (platform == "tpu")
    assert not is_for_tpu()
