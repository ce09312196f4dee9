"""Errors that a user can correct: invalid input, settings or stores."""


class InputError(Exception):
    """Something that the user provided cannot be used.

    The message names the file, item or key, and says how to correct it. The command line prints it
    without a traceback and exits with status 2.
    """
