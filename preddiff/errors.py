"""Errors that a user can mend: bad input, bad settings, stores that do not fit."""


class InputError(Exception):
    """Something the user gave cannot be used.

    The message names the file, subject or key and says what to do about it. The command line
    prints it without a traceback and exits with status 2.
    """
