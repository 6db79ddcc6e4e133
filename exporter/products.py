"""The Qlik products whose Licenses service can be monitored: their files and services, and what their users see.

Facts are marked: *seen* in Qlik's documentation or by its users, *inferred* from another product, *unknown*. What is
unknown is left to the site's configuration and never guessed.
"""

from dataclasses import dataclass
from typing import Literal

ProductName = Literal["sense", "nprinting", "qlikview"]


@dataclass(frozen=True)
class Product:
    """One product: facts, and the texts of the verdict about it."""

    title: str
    proxy_files: tuple[str, ...]
    """Where the Licenses service's own proxy setting may be, the likeliest first, as Windows writes it."""
    proxy_service: str
    """The Windows service whose program's folder may contain that file; empty if unknown."""
    has_repository: bool
    """Whether there is a Repository with its logs. Only then is the folder of the Licenses log known, too."""
    everyone_sees: str
    """What people see once the license is stale or expired."""
    refusal: str
    """The message that a refused user sees, with its full stop."""
    not_yet: str
    """What people see while syncs fail during the grace."""
    silent: str
    """What people see while the Licenses service logs nothing: it may not be running."""
    restart: str
    """The step that restarts the Licenses service."""
    force: tuple[str, ...]
    """The step that forces a sync; none if no way is known."""
    service_proxy: str
    """The step that compares the service's own proxy setting."""
    try_it: str
    """The step that shows whether users can work."""

    @property
    def proxy_file(self) -> str:
        """The name of the file with the proxy setting, without its folder."""
        return self.proxy_files[0].rpartition("\\")[2]


_REFUSAL = '"You cannot access Qlik Sense because you have no access pass".'
_NOT_YET = "Nothing yet. After the grace time everyone is refused."

SENSE = Product(
    title="Qlik Sense",
    # The file and its section: seen. The names of its parameters: inferred from NPrinting's.
    proxy_files=(r"%ProgramFiles%\Qlik\Sense\ServiceDispatcher\services.conf",),
    proxy_service="QlikSenseServiceDispatcher",
    has_repository=True,
    everyone_sees=f"Nobody can open Qlik Sense: {_REFUSAL}",
    refusal=_REFUSAL,
    not_yet=_NOT_YET,
    silent=_NOT_YET,
    restart="Restart the Windows service Qlik Sense Service Dispatcher, which runs the Licenses service.",
    force=(
        "If no sync follows, force one: in the QMC, License management, change one character of the key and apply it. "
        "It is refused, but a sync happens. Then apply the correct key again.",
    ),
    service_proxy="Compare the proxy of the Licenses service (services.conf of the Service Dispatcher, "
    "[licenses.parameters]) with the one that works. Qlik upgrades overwrite that file.",
    try_it="Open the hub as a user.",
)
NPRINTING = Product(
    title="Qlik NPrinting",
    # Seen, under both names. The log folder, the service's name and the limits of staleness: unknown.
    proxy_files=(
        r"%ProgramFiles%\NPrintingServer\NPrinting\License\license.config",
        r"%ProgramFiles%\NPrintingServer\NPrinting\License\service.conf",
    ),
    proxy_service="",
    has_repository=False,
    # Seen: a licensing service that does not answer has the effect of an expired license, for up to a minute after it
    # answers again.
    everyone_sees="Qlik NPrinting stops working: no reports are created or distributed.",
    refusal="Qlik NPrinting stops working, as with an expired license.",
    not_yet="Nothing yet. Once the license counts as expired, Qlik NPrinting stops working.",
    silent="Perhaps nothing yet. If the Licenses service does not answer, Qlik NPrinting stops as with an expired "
    "license, and continues within a minute after it answers.",
    restart="Restart the license service of Qlik NPrinting, one of its Windows services (its name is not documented).",
    force=(),
    service_proxy="Compare the proxy of the Licenses service (license.config or service.conf in the folder "
    r"NPrintingServer\NPrinting\License, the keys that begin with proxy-) with the one that works.",
    try_it="Run a task in Qlik NPrinting.",
)
QLIKVIEW = Product(
    title="QlikView",
    # The file's name and the Windows service: seen. Its folder and format: unknown, so it is looked for beside the
    # service's program. The log folder and the limits of staleness: unknown.
    proxy_files=("service.conf",),
    proxy_service="QlikViewServiceDispatcher",
    has_repository=False,
    everyone_sees='Nobody can work: "Unable to acquire valid license information".',
    refusal='"Unable to acquire valid license information".',
    not_yet=_NOT_YET,
    silent=_NOT_YET,
    restart="Restart the Windows service QlikViewServiceDispatcher, which runs the Licenses service.",
    force=(),
    service_proxy="Compare the proxy of the Licenses service (service.conf of the QlikView Service Dispatcher) with "
    "the one that works.",
    try_it="Open QlikView's AccessPoint as a user.",
)

PRODUCTS: dict[ProductName, Product] = {"sense": SENSE, "nprinting": NPRINTING, "qlikview": QLIKVIEW}
