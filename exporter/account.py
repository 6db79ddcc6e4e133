"""The account of this process, for a person who is to grant it a right."""

import getpass
import os
import sys


def account() -> str:
    """The account that this process runs as, for a person who is to grant it a right."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a user id without a name, as in a container
        if sys.platform == "win32":
            return "unknown"
        return str(os.getuid())
