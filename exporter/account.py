"""The account of this process, for messages about missing permissions."""

import getpass
import os
import sys


def account() -> str:
    """The account that this process runs as, as an administrator would look for it."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a user id without a name, as in a container
        if sys.platform == "win32":
            return "unknown"
        return str(os.getuid())
