"""Models that score texts: likelihood, classifiers, a language model of real text; and the metrics of a task."""
