"""Training: pure steps (`gan`), and the thin shell around them that touches files, clocks and signals."""
