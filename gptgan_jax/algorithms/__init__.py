"""The heart: the steps of two players, as pure functions of a game and a state. No files, no configuration."""
