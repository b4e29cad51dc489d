"""The one exception that users are meant to read."""


class LikenessError(Exception):
    """Something the user can mend: one line that names the key, file or rank and says what to do.

    The commands print it as ``error: MESSAGE`` without a traceback and exit with code 2.
    """
