"""Non-maximum suppression on a CPU (section 4.1, "Inference")."""
