"""Text to token ids and back: words, byte pairs, tokenizer.json, chat templates."""
