"""Data sets: checks of annotation files and images, and synthetic shapes."""
