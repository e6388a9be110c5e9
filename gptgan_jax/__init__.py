"""GPT text GANs in JAX."""
