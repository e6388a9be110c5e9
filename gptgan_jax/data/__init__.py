"""Where text comes from, how it becomes token ids, and how ids become batches. Knows no model."""
