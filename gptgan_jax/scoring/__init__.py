"""Models by which texts are scored: likelihood, classifiers, a language model of real text; and a task's figures."""
