"""The one exception that means: the user's input is wrong, and this line says what would be right."""


class UserError(ValueError):
    """Bad input. The message is one line: what is wrong, where (file, line or key), what would be right.

    The command line prints it and exits with status 2; a library caller sees an ordinary ValueError.
    """
