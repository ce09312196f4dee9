"""Stages of a study, one module each: what a subcommand and a rule of the workflow run."""
