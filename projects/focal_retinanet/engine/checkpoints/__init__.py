"""Checkpoints: loaded safely, and held against the model and the classes."""
