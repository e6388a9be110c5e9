"""Models of other programs: Hugging Face folders and GGUF files, their families, tensors and tokenizers, the hub."""
