"""The board "Exporter": whether the exporters themselves see, understand and keep what they should."""

from grafana_foundation_sdk.builders import dashboard

from exporter import metrics
from exporter.verdict import LIMITS
from grafana import limits, style
from grafana.queries import (
    MEMORY,
    PROCESSOR,
    SCRAPE_DURATION,
    SITE_LABELS,
    TARGET_LABELS,
    UP,
    by_target,
    gone_up,
    selector,
)
from grafana.style import About, query, query_rows

UID = "qlik-license-exporter"
NOT_SCRAPED = "No exporter answers"
NOBODY_PUSHES = "No exporter pushes"


def by_log(aggregation: str, expression: str, *more: str) -> str:
    """One value for each log of each exporter."""
    return f"{aggregation} by ({', '.join((TARGET_LABELS, 'log', *more))}) ({expression})"


def exporter_health() -> dashboard.Dashboard:
    """The board."""
    board = style.board(
        UID,
        "Qlik license: exporter",
        "Do the exporters see, understand and keep what they should?",
        "24h",
        marks=(
            style.Mark(
                "Exporter started",
                "blue",
                f"sum by ({SITE_LABELS}) (changes({selector(metrics.START)}[$__rate_interval])) > 0",
            ),
        ),
    )
    _add_summary(board)
    board.with_panel(style.firing_alerts(6))
    board.with_row(dashboard.Row("Logs"))
    _add_logs(board)
    board.with_row(dashboard.Row("Process and state"))
    _add_process(board)
    board.with_row(dashboard.Row("Remote write"))
    _add_remote_write(board)
    return board


def _add_summary(board: dashboard.Dashboard) -> None:
    board.with_panel(
        style.number(
            About(
                "Exporters down",
                "Exporters that Prometheus cannot scrape. Their licenses are not monitored.",
                "none",
                "Prometheus has no such target",
                ("QlikLicenseExporterDown", "QlikLicenseExporterAbsent"),
            ),
            4,
            4,
            query(f"count({selector(UP)} == 0) or 0 * count({selector(UP)})", "Down"),
            thresholds=((None, "green"), (1, "red")),
        )
    )
    board.with_panel(
        style.number(
            About(
                "Unread log bytes",
                "Bytes in the logs that have not been read yet, all exporters together. More than 1 MiB is a lag.",
                "bytes",
                NOT_SCRAPED,
                ("QlikLicenseLogLagging",),
            ),
            4,
            4,
            query(f"sum({selector(metrics.LOG_UNREAD)})", "Unread"),
            thresholds=((None, "green"), (limits.LOG_UNREAD_BYTES, "red")),
        )
    )
    board.with_panel(
        style.number(
            About(
                "Logs last read",
                "Time since the last poll without an error, of the worst log. Logs are read every second.",
                "s",
                NOT_SCRAPED,
                ("QlikLicenseLogUnreadable",),
            ),
            4,
            4,
            query(f"time() - min({selector(metrics.LOG_LAST_READ)})", "Ago"),
            thresholds=((None, "green"), (LIMITS.unread, "red")),
        ).decimals(0)
    )
    board.with_panel(
        style.number(
            About(
                "Unknown, 24 h",
                "Entries of the Licenses log that are not recognised. If there are many after a Qlik upgrade, run "
                "`qlik-license-exporter explain --unknown` on the log and add the messages under `messages:`.",
                "none",
                NOT_SCRAPED,
                ("QlikLicenseUnknownErrors", "QlikLicenseSyncUnknown"),
            ),
            4,
            4,
            query(
                f"sum({gone_up(metrics.LOG_MESSAGES, '24h', log='licenses', message='unknown')})",
                "Unknown",
            ),
            thresholds=((None, "green"), (1, "orange")),
        ).decimals(0)
    )
    board.with_panel(
        style.number(
            About(
                "State last saved",
                "Time since the state file was last saved, of the worst exporter; due every five minutes.",
                "s",
                NOT_SCRAPED,
                ("QlikLicenseStateNotSaved",),
            ),
            4,
            4,
            query(f"time() - min({selector(metrics.STATE_LAST_SAVE)})", "Ago"),
            thresholds=((None, "green"), (limits.STATE_NOT_SAVED_SECONDS, "red")),
        ).decimals(0)
    )
    board.with_panel(
        style.number(
            About(
                "Restarts, 24 h",
                "How often a component of an exporter (tail, probe, qrs, store, web) failed and was restarted.",
                "none",
                NOT_SCRAPED,
                ("QlikLicenseExporterRestarting",),
            ),
            4,
            4,
            query(f"sum({gone_up(metrics.COMPONENT_FAILURES, '24h')})", "Restarts"),
            thresholds=((None, "green"), (1, "orange")),
        ).decimals(0)
    )
    _add_exporters(board)


def _add_exporters(board: dashboard.Dashboard) -> None:
    exporters = style.columns(
        style.rows(
            About(
                "Exporters",
                "One row for each exporter. If a configuration cannot be loaded, the previous one stays in force.",
                "none",
                "Prometheus has no such target",
                (
                    "QlikLicenseExporterDown",
                    "QlikLicenseConfigReloadFailed",
                    "QlikLicenseExporterFrozen",
                    "QlikLicenseTargetWithoutSite",
                ),
            ),
            24,
            7,
            query_rows(by_target("min", selector(UP)), name="Up"),
            query_rows(
                f"max by ({TARGET_LABELS}, version, python_version) ({selector(metrics.BUILD_INFO)})", name="Build"
            ),
            query_rows(f"time() - {by_target('max', selector(metrics.START))}", name="Since"),
            query_rows(f"time() - {by_target('max', selector(metrics.FIRST_START))}", name="First"),
            query_rows(by_target("min", selector(metrics.RELOAD_SUCCESSFUL)), name="Config"),
            query_rows(f"time() - {by_target('max', selector(metrics.RELOAD_SUCCESS))}", name="Loaded"),
            query_rows(by_target("min", selector(metrics.QRS_UP)), name="Api"),
            query_rows(by_target("sum", selector(metrics.LOG_FILES)), name="Files"),
            query_rows(by_target("sum", gone_up(metrics.STATE_SAVE_FAILURES, "24h")), name="Save"),
        ),
        {
            "site": style.Column("Site", width=90),
            "instance": style.Column("Node", width=160),
            "Value #Up": style.Column("Exporter", width=90, words={0: ("Down", "red"), 1: ("Up", "green")}),
            "version": style.Column("Version", width=90),
            "python_version": style.Column("Python", width=90),
            "Value #Since": style.Column("Running for", unit="s", decimals=1),
            "Value #First": style.Column("Known for", unit="s", decimals=1),
            "Value #Config": style.Column("Configuration", words={0: ("Not loaded", "red"), 1: ("Loaded", "green")}),
            "Value #Loaded": style.Column("Loaded", width=90, unit="s", decimals=1),
            "Value #Api": style.Column("Repository API", width=115, words={0: ("Down", "red"), 1: ("Up", "green")}),
            "Value #Files": style.Column("Log files", width=90),
            "Value #Save": style.Column("Saves failed, 24 h", decimals=0),
        },
        hidden=("Value #Build",),
    )
    board.with_panel(exporters)


def _add_logs(board: dashboard.Dashboard) -> None:
    board.with_panel(
        style.bars(
            About(
                "Records read",
                "Records of each log in each interval, all exporters together.",
                "none",
                NOT_SCRAPED,
                ("QlikLicenseLogSilent", "QlikLicenseLogSeveralWriters"),
            ),
            8,
            7,
            query(f"sum by (log) ({gone_up(metrics.LOG_RECORDS)})", "{{log}}"),
        ).decimals(0)
    )
    board.with_panel(
        style.lines(
            About(
                "Unread bytes",
                "How far reading is behind, by log. Dashed: 1 MiB.",
                "bytes",
                NOT_SCRAPED,
                ("QlikLicenseLogLagging",),
            ),
            8,
            7,
            query(by_log("sum", selector(metrics.LOG_UNREAD)) + " > 0", "{{instance}} {{log}}", name="A"),
            query(f"sum({selector(metrics.LOG_UNREAD)})", "All together", name="B"),
            limits=limits.line_at(limits.LOG_UNREAD_BYTES),
        ).min(0)
    )
    board.with_panel(
        style.lines(
            About(
                "Newest entry of the Licenses log",
                "How old the newest entry is, by its own time. Either the service is silent, or the log is "
                "not read. Dashed: 26 hours.",
                "s",
                "No Licenses log read",
                ("QlikLicenseLogSilent", "QlikLicenseLogUnreadable"),
            ),
            8,
            7,
            query(
                "time() - " + by_target("max", selector(metrics.LOG_LAST_ENTRY, log="licenses")),
                "{{instance}}",
            ),
            limits=limits.line_at(LIMITS.overdue),
        ).min(0)
    )
    board.with_panel(
        style.bars(
            About(
                "Messages of the Licenses log",
                "Entries by recognised message. `unknown` are those that are not recognised.",
                "none",
                NOT_SCRAPED,
                ("QlikLicenseUnknownErrors", "QlikLicenseSyncUnknown"),
            ),
            8,
            7,
            query(f"sum by (message) ({gone_up(metrics.LOG_MESSAGES, log='licenses')}) > 0", "{{message}}"),
        )
        .decimals(0)
        .override_by_name("unknown", style.properties(color=style.fixed("orange")))
    )
    board.with_panel(
        style.bars(
            About(
                "Severe entries of the trace logs",
                "WARN, ERROR and FATAL entries of the Repository's license loggers.",
                "none",
                NOT_SCRAPED,
            ),
            8,
            7,
            query(f"sum by (level) ({gone_up(metrics.LOG_SEVERE)})", "{{level}}"),
        )
        .decimals(0)
        .override_by_name("warn", style.properties(color=style.fixed("yellow")))
        .override_by_name("error", style.properties(color=style.fixed("orange")))
        .override_by_name("fatal", style.properties(color=style.fixed("red")))
    )
    trouble = (
        (metrics.LOG_READ_ERRORS, "Read errors"),
        (metrics.LOG_MALFORMED, "Malformed records"),
        (metrics.LOG_FUTURE, "Records from the future"),
        (metrics.LOG_LOST, "Lost files"),
    )
    board.with_panel(
        style.bars(
            About(
                "Trouble with the logs",
                "What could not be read or parsed, in each interval, all exporters together.",
                "none",
                NOT_SCRAPED,
                ("QlikLicenseLogUnreadable",),
            ),
            8,
            7,
            *(
                query(f"sum({gone_up(metric)})", text, name=chr(ord("A") + number))
                for number, (metric, text) in enumerate(trouble)
            ),
        ).decimals(0)
    )


def _add_process(board: dashboard.Dashboard) -> None:
    board.with_panel(
        style.lines(
            About("Memory", "Resident memory of each exporter.", "bytes", "Not available on this system"),
            6,
            7,
            query(by_target("max", selector(MEMORY)), "{{instance}}"),
        ).min(0)
    )
    board.with_panel(
        style.lines(
            About(
                "Processor",
                "Share of one processor core that each exporter uses.",
                "percentunit",
                "Not available on this system",
            ),
            6,
            7,
            query(by_target("max", f"rate({selector(PROCESSOR)}[$__rate_interval])"), "{{instance}}"),
        ).min(0)
    )
    board.with_panel(
        style.lines(
            About(
                "Scrape duration",
                "How long Prometheus waited for each exporter. It should scrape every two minutes or more often.",
                "s",
                NOT_SCRAPED,
                ("QlikLicenseScrapedTooSeldom",),
            ),
            6,
            7,
            query(by_target("max", selector(SCRAPE_DURATION)), "{{instance}}"),
        ).min(0)
    )
    board.with_panel(
        style.lines(
            About(
                "Age of the saved state",
                "It is saved at least every five minutes, even if nothing has changed. Dashed: 15 minutes.",
                "s",
                NOT_SCRAPED,
                ("QlikLicenseStateNotSaved", "QlikLicenseStateLost"),
            ),
            6,
            7,
            query(f"time() - {by_target('max', selector(metrics.STATE_LAST_SAVE))}", "{{instance}}"),
            limits=limits.line_at(limits.STATE_NOT_SAVED_SECONDS),
        ).min(0)
    )
    board.with_panel(
        style.lines(
            About(
                "Bytes read",
                "How much of the logs each exporter reads.",
                "bytes",
                NOT_SCRAPED,
            ),
            8,
            7,
            query(by_target("sum", gone_up(metrics.LOG_READ_BYTES)), "{{instance}}"),
        ).min(0)
    )
    board.with_panel(
        style.bars(
            About(
                "Log files rolled",
                "How often Qlik began a new file. A log that is rotated every few minutes is flooded by something.",
                "none",
                NOT_SCRAPED,
            ),
            8,
            7,
            query(f"sum by (log) ({gone_up(metrics.LOG_ROTATIONS)})", "{{log}}"),
        ).decimals(0)
    )
    board.with_panel(
        style.lines(
            About(
                "Repository API",
                "Duration of a request, and age of the last successful one. Seats, minutes and expiry are that old.",
                "s",
                "The Repository API is not read",
                ("QlikLicenseQrsUnreachable",),
            ),
            8,
            7,
            query(by_target("max", selector(metrics.QRS_DURATION)), "{{instance}}: a read takes", name="A"),
            query(
                f"time() - {by_target('max', selector(metrics.QRS_LAST_SUCCESS))}",
                "{{instance}}: last good read",
                name="B",
            ),
        ).min(0)
    )


def _add_remote_write(board: dashboard.Dashboard) -> None:
    board.with_panel(
        style.lines(
            About(
                "Samples sent and dropped",
                "What the receiver has taken, what is sent again after a failure, and what was dropped, by reason.",
                "none",
                NOBODY_PUSHES,
                ("QlikLicenseExporterPushStopped", "QlikLicenseRemoteWriteFailing"),
            ),
            8,
            7,
            query(f"sum by ({SITE_LABELS}) ({gone_up(metrics.REMOTE_WRITE_SAMPLES)})", "sent", name="A"),
            query(f"sum by ({SITE_LABELS}) ({gone_up(metrics.REMOTE_WRITE_RETRIED)})", "sent again", name="B"),
            query(
                f"sum by ({SITE_LABELS}, reason) ({gone_up(metrics.REMOTE_WRITE_DROPPED)})",
                "dropped: {{reason}}",
                name="C",
            ),
        ).min(0)
    )
    board.with_panel(
        style.lines(
            About(
                "Samples that wait",
                "The queue of each exporter that pushes. One sample set waits at most a moment if the receiver is up.",
                "none",
                NOBODY_PUSHES,
            ),
            8,
            7,
            query(by_target("max", selector(metrics.REMOTE_WRITE_PENDING)), "{{instance}}"),
        ).min(0)
    )
    board.with_panel(
        style.lines(
            About(
                "Age of what waits and of what was sent",
                "Age of the oldest samples in the queue, and of the newest that the receiver has. Dashed: 15 minutes.",
                "s",
                NOBODY_PUSHES,
                ("QlikLicenseRemoteWriteFailing",),
            ),
            8,
            7,
            query(
                f"time() - {by_target('min', selector(metrics.REMOTE_WRITE_OLDEST))}",
                "{{instance}}: oldest that waits",
                name="A",
            ),
            query(
                f"time() - {by_target('max', selector(metrics.REMOTE_WRITE_SENT))}",
                "{{instance}}: newest that was sent",
                name="B",
            ),
            limits=limits.line_at(limits.REMOTE_WRITE_WAITING_SECONDS),
        ).min(0)
    )
