"""Several devices and several processes: how arrays are split, and how processes synchronise."""
