"""Files, signals and the terminal."""
