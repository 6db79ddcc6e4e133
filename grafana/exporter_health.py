"""The board "Exporter": whether the exporters themselves see, understand and keep what they should."""

from grafana_foundation_sdk.builders import dashboard

from exporter.verdict import LIMITS
from grafana import limits, style
from grafana.queries import SITE_LABELS, TARGET_LABELS, by_target, gone_up, selector
from grafana.style import About, query, query_rows

UID = "qlik-license-exporter"
NOT_SCRAPED = "No exporter answers"
PREFIX = "qlik_license_exporter_"


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
                f"sum by ({SITE_LABELS}) (changes({selector(PREFIX + 'start_timestamp_seconds')}[$__interval])) > 0",
            ),
        ),
    )
    _add_summary(board)
    board.with_row(dashboard.Row("Logs"))
    _add_logs(board)
    board.with_row(dashboard.Row("Process and state"))
    _add_process(board)
    return board


def _add_summary(board: dashboard.Dashboard) -> None:
    board.with_panel(
        style.number(
            About(
                "Exporters down",
                "Exporters that Prometheus cannot scrape. Qlik's clock runs on unseen meanwhile.",
                "none",
                "Prometheus has no such target",
                ("QlikLicenseExporterDown", "QlikLicenseExporterAbsent"),
            ),
            4,
            4,
            query(f"count({selector('up')} == 0) or 0 * count({selector('up')})", "Down"),
            thresholds=((None, "green"), (1, "red")),
        )
    )
    board.with_panel(
        style.number(
            About(
                "Unread log bytes",
                "What lies in the logs and has not been read, all exporters together. More than 1 MiB is a lag.",
                "bytes",
                NOT_SCRAPED,
                ("QlikLicenseLogLagging",),
            ),
            4,
            4,
            query(f"sum({selector(PREFIX + 'log_unread_bytes')})", "Unread"),
            thresholds=((None, "green"), (limits.LOG_UNREAD_BYTES, "red")),
        )
    )
    board.with_panel(
        style.number(
            About(
                "Logs last read",
                "Time since the last poll without an error, of the log that is worst off. Read every second.",
                "s",
                NOT_SCRAPED,
                ("QlikLicenseLogUnreadable",),
            ),
            4,
            4,
            query(f"time() - min({selector(PREFIX + 'log_last_read_timestamp_seconds')})", "Ago"),
            thresholds=((None, "green"), (LIMITS.unread, "red")),
        ).decimals(0)
    )
    board.with_panel(
        style.number(
            About(
                "Unknown, 24 h",
                "Entries of the Licenses log that no built-in wording fits. Many of them after an upgrade of Qlik: run "
                "`qlik-license-exporter explain --unknown` on the log and teach the wording.",
                "none",
                NOT_SCRAPED,
                ("QlikLicenseUnknownErrors", "QlikLicenseSyncUnknown"),
            ),
            4,
            4,
            query(
                f"sum({gone_up('qlik_license_log_messages_total', '24h', log='licenses', message='unknown')})",
                "Unknown",
            ),
            thresholds=((None, "green"), (1, "orange")),
        ).decimals(0)
    )
    board.with_panel(
        style.number(
            About(
                "State last saved",
                "Time since the state file was saved, of the exporter that is worst off; due every five minutes.",
                "s",
                NOT_SCRAPED,
                ("QlikLicenseStateNotSaved",),
            ),
            4,
            4,
            query(f"time() - min({selector(PREFIX + 'state_last_save_timestamp_seconds')})", "Ago"),
            thresholds=((None, "green"), (limits.STATE_NOT_SAVED_SECONDS, "red")),
        ).decimals(0)
    )
    board.with_panel(
        style.number(
            About(
                "Restarts, 24 h",
                "Times a part of an exporter (tail, probe, qrs, store, web) died and was started anew.",
                "none",
                NOT_SCRAPED,
                ("QlikLicenseExporterRestarting",),
            ),
            4,
            4,
            query(f"sum({gone_up(PREFIX + 'component_failures_total', '24h')})", "Restarts"),
            thresholds=((None, "green"), (1, "orange")),
        ).decimals(0)
    )
    _add_exporters(board)


def _add_exporters(board: dashboard.Dashboard) -> None:
    exporters = style.columns(
        style.rows(
            About(
                "Exporters",
                "One row for each exporter. A configuration that could not be loaded leaves the old one in force.",
                "none",
                "Prometheus has no such target",
                ("QlikLicenseExporterDown", "QlikLicenseConfigReloadFailed", "QlikLicenseExporterFrozen"),
            ),
            24,
            7,
            query_rows(by_target("min", selector("up")), name="Up"),
            query_rows(
                f"max by ({TARGET_LABELS}, version, python_version) ({selector(PREFIX + 'build_info')})", name="Build"
            ),
            query_rows(f"time() - {by_target('max', selector(PREFIX + 'start_timestamp_seconds'))}", name="Since"),
            query_rows(
                f"time() - {by_target('max', selector(PREFIX + 'first_start_timestamp_seconds'))}", name="First"
            ),
            query_rows(by_target("min", selector(PREFIX + "config_last_reload_successful")), name="Config"),
            query_rows(by_target("sum", selector(PREFIX + "log_files")), name="Files"),
            query_rows(by_target("sum", gone_up(PREFIX + "state_save_failures_total", "24h")), name="Save"),
            query_rows(by_target("max", selector("scrape_duration_seconds")), name="Scrape"),
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
            "Value #Files": style.Column("Log files", width=90),
            "Value #Save": style.Column("Saves failed, 24 h", decimals=0),
            "Value #Scrape": style.Column("Scrape takes", unit="s", decimals=1),
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
                ("QlikLicenseLogSilent",),
            ),
            8,
            7,
            query(f"sum by (log) ({gone_up(PREFIX + 'log_records_total')})", "{{log}}"),
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
            query(by_log("sum", selector(PREFIX + "log_unread_bytes")) + " > 0", "{{instance}} {{log}}", name="A"),
            query(f"sum({selector(PREFIX + 'log_unread_bytes')})", "All together", name="B"),
            limits=limits.line_at(limits.LOG_UNREAD_BYTES),
        ).min(0)
    )
    board.with_panel(
        style.lines(
            About(
                "Newest entry of the Licenses log",
                "How old the newest entry is, by its own time. Silence is a silent service, or a log that "
                "is not read. Dashed: 26 hours.",
                "s",
                "No Licenses log read",
                ("QlikLicenseLogSilent", "QlikLicenseLogUnreadable"),
            ),
            8,
            7,
            query(
                "time() - " + by_target("max", selector(PREFIX + "log_last_entry_timestamp_seconds", log="licenses")),
                "{{instance}}",
            ),
            limits=limits.line_at(LIMITS.overdue),
        ).min(0)
    )
    board.with_panel(
        style.bars(
            About(
                "Messages of the Licenses log",
                "Entries by the message they were recognised as. `unknown` is what nobody taught the exporter.",
                "none",
                NOT_SCRAPED,
                ("QlikLicenseUnknownErrors", "QlikLicenseSyncUnknown"),
            ),
            8,
            7,
            query(
                f"sum by (message) ({gone_up('qlik_license_log_messages_total', log='licenses')}) > 0", "{{message}}"
            ),
        )
        .decimals(0)
        .override_by_name("unknown", style.properties(color=style.fixed("orange")))
    )
    board.with_panel(
        style.bars(
            About(
                "Severe entries of the trace logs",
                "WARN, ERROR and FATAL rows of the Repository's license loggers.",
                "none",
                NOT_SCRAPED,
            ),
            8,
            7,
            query(f"sum by (level) ({gone_up('qlik_license_log_severe_entries_total')})", "{{level}}"),
        )
        .decimals(0)
        .override_by_name("warn", style.properties(color=style.fixed("yellow")))
        .override_by_name("error", style.properties(color=style.fixed("orange")))
        .override_by_name("fatal", style.properties(color=style.fixed("red")))
    )
    trouble = {
        "log_read_errors_total": "Read errors",
        "log_malformed_records_total": "Malformed records",
        "log_future_records_total": "Records from the future",
        "log_lost_generations_total": "Lost files",
    }
    board.with_panel(
        style.bars(
            About(
                "Trouble with the logs",
                "What could not be read or understood, in each interval, all exporters together.",
                "none",
                NOT_SCRAPED,
                ("QlikLicenseLogUnreadable",),
            ),
            8,
            7,
            *(
                query(f"sum({gone_up(PREFIX + metric)})", text, name=chr(ord("A") + number))
                for number, (metric, text) in enumerate(trouble.items())
            ),
        ).decimals(0)
    )


def _add_process(board: dashboard.Dashboard) -> None:
    board.with_panel(
        style.lines(
            About("Memory", "Resident memory of each exporter.", "bytes", "Not told on this system"),
            6,
            7,
            query(by_target("max", selector("process_resident_memory_bytes")), "{{instance}}"),
        ).min(0)
    )
    board.with_panel(
        style.lines(
            About(
                "Processor",
                "Share of one processor core that each exporter uses.",
                "percentunit",
                "Not told on this system",
            ),
            6,
            7,
            query(by_target("max", f"rate({selector('process_cpu_seconds_total')}[$__rate_interval])"), "{{instance}}"),
        ).min(0)
    )
    board.with_panel(
        style.lines(
            About("Scrape duration", "How long Prometheus waited for each exporter.", "s", NOT_SCRAPED),
            6,
            7,
            query(by_target("max", selector("scrape_duration_seconds")), "{{instance}}"),
        ).min(0)
    )
    board.with_panel(
        style.lines(
            About(
                "Age of the saved state",
                "Saved at least every five minutes, also when nothing changed. Dashed: 15 minutes.",
                "s",
                NOT_SCRAPED,
                ("QlikLicenseStateNotSaved",),
            ),
            6,
            7,
            query(
                f"time() - {by_target('max', selector(PREFIX + 'state_last_save_timestamp_seconds'))}", "{{instance}}"
            ),
            limits=limits.line_at(limits.STATE_NOT_SAVED_SECONDS),
        ).min(0)
    )
