"""Stages of a study and other commands: one module per subcommand of `preddiff`."""
