"""Pictures: of data, assignments, losses, detections and training."""
