"""The same work in gptgan_jax and in PyTorch, compared, then timed: `python -m benchmarks`; see docs/performance.md."""
