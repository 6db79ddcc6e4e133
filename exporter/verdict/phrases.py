"""The sentences that several findings share. Those that depend on the product are in `exporter.products`."""

# --- what users see --------------------------------------------------------------------------------------------------

NOTHING = "Nothing: they can work."

# --- evidence --------------------------------------------------------------------------------------------------------

SILENCE_DOUBTED = (
    "On this site, attempts without a logged failure have turned out to be failures. Successes are inferred again once "
    "users can work without another such report, or a message or the Repository API shows a success."
)

# --- steps of a cure -------------------------------------------------------------------------------------------------

OPEN_THE_WAY = (
    "Allow this node to connect to license.qlikcloud.com, port 443, through the proxy that the Licenses service uses."
)
TRY_THE_WAY = (
    "On the node, run `qlik-license-exporter probe`: it names the stage at which the connection to the backend fails."
)
CONFIRM = "To confirm, run `diagnose` again after the next sync, and ask a user to log out and in."
SHOW_UNKNOWN = (
    "Run `qlik-license-exporter explain --unknown` on the Licenses log: it lists the unknown messages, and prints the "
    "entry for `messages:` in the configuration that defines one."
)
EXEMPT = "Ask the network team to exempt license.qlikcloud.com from TLS inspection."
FIX_CLOCK = (
    "Correct the clock of this machine (`w32tm /query /status`, `w32tm /resync`): TLS and licenses depend on it."
)
