"""The sentences that several findings share: what users see, and the steps of a cure."""

# --- what users see --------------------------------------------------------------------------------------------------

NOTHING = "Nothing: they can work."
NOTHING_YET = "Nothing yet. After the grace time everyone is refused."
REFUSAL = '"You cannot access Qlik Sense because you have no access pass".'
EVERYONE = f"Nobody can open Qlik Sense: {REFUSAL}"

# --- steps of a cure -------------------------------------------------------------------------------------------------

OPEN_THE_WAY = (
    "Open the way from this node to license.qlikcloud.com, port 443, through the proxy that the Licenses service uses."
)
TRY_THE_WAY = "On the node, run `qlik-license-exporter probe`: it names the stage at which the way to the backend ends."
RESTART = "Restart the Windows service Qlik Sense Service Dispatcher, which runs the Licenses service."
FORCE = (
    "If no sync follows, force one: in the QMC, License management, change one character of the key and apply it. It "
    "is refused, but a sync happens. Then put the right key back."
)
CONFIRM = "Confirm: run `diagnose` again after the next sync, and let one user log out and in."
SERVICE_PROXY = (
    "Compare the proxy of the Licenses service (services.conf of the Service Dispatcher, [licenses.parameters]) with "
    "what works. Qlik upgrades overwrite that file."
)
SHOW_UNKNOWN = (
    "Run `qlik-license-exporter explain --unknown` on the Licenses log: it lists the wordings that are not known, and "
    "prints the entry for `messages:` in the configuration that tells what one means."
)
EXEMPT = "Ask the network team to exempt license.qlikcloud.com from TLS inspection."
FIX_CLOCK = "Set this machine's clock right (`w32tm /query /status`, `w32tm /resync`): TLS and licenses depend on it."
