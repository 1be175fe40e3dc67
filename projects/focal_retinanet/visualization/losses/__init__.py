"""Figures of the loss: its curves, its distribution over anchors, its map over an image."""
