"""One module per command. Nothing heavy is imported before the arguments are known to be good."""
