"""The frozen program's entry point: the service when the service manager calls, else the command line."""

import sys

from exporter.commands import service

if sys.argv[1:] == [service.HOST_ARGUMENT]:
    service.host()
else:
    from exporter.__main__ import main  # only now: the service manager does not wait for it

    sys.exit(main())
