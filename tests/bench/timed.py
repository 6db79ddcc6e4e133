"""Runs a command and prints its seconds, processor seconds, largest KiB and status.

A process of its own, and a small one: Linux counts the memory of whoever starts a program as that program's.
"""

import os
import sys
import time

begun = time.perf_counter()
child = os.fork()
if not child:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.execvp(sys.argv[1], sys.argv[1:])
_, status, usage = os.wait4(child, 0)
print(time.perf_counter() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss, status)
