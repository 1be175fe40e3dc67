"""Config files: rows of a table, options of the command line, misspelled keys."""
