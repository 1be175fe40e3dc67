"""What all tools share: arguments, errors, the console, folders; imports nothing of ours."""
