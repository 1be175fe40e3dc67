"""Data sets: checks of the user's, and a synthetic one."""
