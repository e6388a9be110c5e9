"""The parts of networks that models share."""
