"""Arguments, errors, console lines and outputs of the tools; imports no other room."""
