"""The command line: flags of every command, and what it does with them."""
