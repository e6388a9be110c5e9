"""Compares and times the same work in gptgan_jax and PyTorch: `python -m benchmarks`; see docs/performance.md."""
