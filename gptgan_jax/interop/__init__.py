"""Models in and out: Hugging Face folders, StableHLO, TensorFlow. Neither PyTorch nor transformers is imported."""
