"""Settings of a study: the keys of a configuration file, their defaults and their bounds."""
