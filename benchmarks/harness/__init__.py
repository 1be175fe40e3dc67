"""What all cases share: flags, inputs, agreement, timing, report."""
