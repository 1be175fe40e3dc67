"""Running a detector: config, runner, hooks, checkpoints, sweep and inference."""
