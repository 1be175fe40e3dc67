"""Config files: rows of a table, command-line options, misspelt keys."""
