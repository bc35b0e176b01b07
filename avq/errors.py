"""The exception for errors that the user can correct."""


class InputError(Exception):
    """Bad input: the message is one line that names what is wrong and what to do. Commands print it
    and exit with code 2.
    """
