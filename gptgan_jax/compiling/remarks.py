"""Remarks on costs of a config on a TPU that its table does not explain."""

from gptgan_jax.config import Config
from gptgan_jax.models.transformer_config import TransformerConfig


def remarks(config: Config) -> list[str]:
    """Lines for each player whose layers are scanned.

    Without remat a scan stacks every layer's intermediate results for the backward pass, which the compiler fuses or
    recomputes in an unrolled program. With or without it, the compiler casts the float32 weights of all layers to the
    networks' dtype before the loop (docs/scaling.md).
    """
    lines = []
    for name in ("generator", "discriminator"):
        network = getattr(config, name)
        if not isinstance(network, TransformerConfig) or not network.scan_layers:
            continue
        if not network.remat:
            lines.append(
                f"{name}.scan_layers without remat keeps all that its {network.layers} layers compute for the backward "
                f"pass; if memory is short, compare --{name}.remat true and --{name}.scan_layers false"
            )
        if network.dtype != "float32":
            lines.append(
                f"{name}.scan_layers holds all its {network.layers} layers' weights in {network.dtype} too, cast "
                f"before the loop; if memory is short, compare --{name}.scan_layers false"
            )
    return lines
