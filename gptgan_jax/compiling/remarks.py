"""What a config costs on a TPU that its table does not explain."""

from gptgan_jax.config import Config
from gptgan_jax.models.transformer_config import TransformerConfig


def remarks(config: Config) -> list[str]:
    """A line for each player whose layers are scanned without remat.

    A scan keeps every layer's intermediate results for the backward pass, stacked, where the compiler of an unrolled
    program fuses them or computes them again (docs/scaling.md).
    """
    lines = []
    for name in ("generator", "discriminator"):
        network = getattr(config, name)
        if isinstance(network, TransformerConfig) and network.scan_layers and not network.remat:
            lines.append(
                f"{name}.scan_layers without remat keeps all that its {network.layers} layers compute for the backward "
                f"pass; where memory is short, compare --{name}.remat true and --{name}.scan_layers false"
            )
    return lines
