"""A run's generator for other programs: Hugging Face folders, StableHLO, TensorFlow, each with a model card."""
