"""What a config costs on a TPU that its table does not explain."""

from gptgan_jax.config import Config
from gptgan_jax.models.transformer_config import TransformerConfig


def remarks(config: Config) -> list[str]:
    """Lines for each player whose layers are scanned.

    Without remat a scan keeps every layer's intermediate results for the backward pass, stacked, where the compiler of
    an unrolled program fuses them or computes them again. With or without it, the compiler casts the float32 weights of
    all layers to the networks' dtype before the loop (docs/scaling.md).
    """
    lines = []
    for name in ("generator", "discriminator"):
        network = getattr(config, name)
        if not isinstance(network, TransformerConfig) or not network.scan_layers:
            continue
        if not network.remat:
            lines.append(
                f"{name}.scan_layers without remat keeps all that its {network.layers} layers compute for the backward "
                f"pass; where memory is short, compare --{name}.remat true and --{name}.scan_layers false"
            )
        if network.dtype != "float32":
            lines.append(
                f"{name}.scan_layers holds all its {network.layers} layers' weights in {network.dtype} too, cast "
                f"before the loop; where memory is short, compare --{name}.scan_layers false"
            )
    return lines
