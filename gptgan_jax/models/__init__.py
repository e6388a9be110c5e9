"""Networks as pure functions: generators give next-token logits, discriminators give scores."""
