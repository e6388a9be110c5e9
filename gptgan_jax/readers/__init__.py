"""Documents from files and data sets, exactly as written there."""
