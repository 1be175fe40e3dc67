"""What all fast paths need: compiled kernels, and tests of whether they can serve."""
