"""Where others look at a run while it trains: `tensorboard` and `wandb_run`, which mirror its records."""
