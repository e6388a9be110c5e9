"""Several devices and several processes: what lies where, and how they meet."""
