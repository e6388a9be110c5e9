"""Documents from files and data sets, as they are written there."""
