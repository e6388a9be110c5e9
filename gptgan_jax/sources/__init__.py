"""Sources of text whose probability is known: a grammar and an LSTM."""
