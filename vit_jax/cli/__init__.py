"""The command line: one file per command, with its flags and what it does."""
