"""Send a console control event to a Windows process: winpython console_event.py PID ctrl-c|break|close|logoff|shutdown

Starts kernelbase's CtrlRoutine, which calls the handlers of SetConsoleCtrlHandler, as a new
thread of that process. The process needs no console. PID is the Windows process id (os.getpid()
there, Popen.pid of a Windows parent). A handler for close, logoff or shutdown is called, but the
process is not ended after it, as real Windows would do.
"""

import ctypes
import sys
from ctypes import wintypes

EVENTS = {"ctrl-c": 0, "break": 1, "close": 2, "logoff": 5, "shutdown": 6}
PROCESS_ALL_ACCESS = 0x1FFFFF


def send(pid, event):
    """Deliver the event named as in EVENTS; OSError if there is no such process."""
    kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
    kernel32.OpenProcess.restype = wintypes.HANDLE
    kernel32.GetProcAddress.restype = ctypes.c_void_p
    kernel32.GetProcAddress.argtypes = [wintypes.HMODULE, ctypes.c_char_p]
    kernel32.CreateRemoteThread.restype = wintypes.HANDLE
    kernel32.CreateRemoteThread.argtypes = [
        wintypes.HANDLE,
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_void_p,
        ctypes.c_void_p,
        wintypes.DWORD,
        ctypes.c_void_p,
    ]
    kernel32.CloseHandle.argtypes = [wintypes.HANDLE]
    process = kernel32.OpenProcess(PROCESS_ALL_ACCESS, False, pid)
    if not process:
        raise ctypes.WinError(ctypes.get_last_error())
    try:
        routine = kernel32.GetProcAddress(ctypes.WinDLL("kernelbase")._handle, b"CtrlRoutine")
        thread = kernel32.CreateRemoteThread(process, None, 0, routine, EVENTS[event], 0, None)
        if not thread:
            raise ctypes.WinError(ctypes.get_last_error())
        kernel32.CloseHandle(thread)
    finally:
        kernel32.CloseHandle(process)


if __name__ == "__main__":
    if len(sys.argv) != 3 or not sys.argv[1].isdigit() or sys.argv[2] not in EVENTS:
        sys.exit(__doc__.splitlines()[0])
    send(int(sys.argv[1]), sys.argv[2])
