"""Sources of text with known probabilities: a grammar and an LSTM."""
