"""Around a run: config, runner, checkpoints, errors, what the console shows."""
