"""Around a run: its config, runner, hooks, checkpoints, sweep and inference."""
