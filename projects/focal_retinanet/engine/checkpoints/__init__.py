"""Checkpoints: safe loading, and checks against the model and the classes."""
