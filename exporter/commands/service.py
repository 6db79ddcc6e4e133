"""`service install|remove|start|stop`, and the Windows service itself. The only user of Windows' service manager.

The service has no settings of its own: it runs `qlik-license-exporter run` with `config.yml` (and `web.yml`, if it
exists) in `%ProgramData%\\qlik-license-exporter`, so no change needs a reinstallation. Only the standard library and
pywin32 are loaded before the service reports to the service manager, which gives up after 30 seconds: a Qlik node that
has just booted can take that long to load the rest (error 1053 of other exporters).
"""

import argparse
import contextlib
import hashlib
import ntpath
import os
import re
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.dated_log import DatedLog

if TYPE_CHECKING:
    from exporter.config import Config

ACTIONS = {
    "install": "create the service, or update it after an upgrade",
    "remove": "stop and delete it; configuration and state are kept",
    "start": "start it and wait until it runs",
    "stop": "stop it and wait until it has stopped",
}

SERVICE_NAME = "qlik-license-exporter"
DISPLAY_NAME = "Qlik license exporter for Prometheus"
DESCRIPTION = "Reads Qlik Sense's license logs, probes the license backend, and serves Prometheus metrics."
ACCOUNT = rf"NT SERVICE\{SERVICE_NAME}"
"""A virtual account: created by Windows with the service, without a password and with only the rights granted to it."""

START_SECONDS = 30
STOP_SECONDS = 20
"""How long `start` and `stop` wait for the service manager to report the change."""
RESTART_DELAYS = (5, 30, 60)
"""Seconds until the service manager restarts a failed service: the first, the second, and every further time."""
RESTARTS_FORGOTTEN = 86400
"""Seconds without a failure after which the service manager resets its failure count."""
ICACLS_SECONDS = 60

ADMINISTRATORS, SYSTEM, CREATOR_OWNER = "S-1-5-32-544", "S-1-5-18", "S-1-3-0"
"""Security identifiers (SIDs) of these accounts, the same in every language of Windows."""
CLOSED = f"O:{ADMINISTRATORS}D:PAI(A;OICI;FA;;;{ADMINISTRATORS})(A;OICI;FA;;;{SYSTEM})"
"""The permissions with which the service's folder is created, as SDDL: owned by and open to administrators only."""

HOST_ARGUMENT = "service-host"
"""The only argument with which the service manager starts a frozen program or the MSI's."""

FIRST_CONFIGURATION = """\
# qlik-license-exporter: every key is optional; on a Qlik node nothing needs to be set.
# All keys: `qlik-license-exporter assets FOLDER` writes a reference, qlik-license-exporter.yml.
# After a change, restart the service or POST to /-/reload.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this command."""
    parser.add_argument("action", choices=ACTIONS, help="; ".join(f"{name}: {what}" for name, what in ACTIONS.items()))


def run(arguments: argparse.Namespace, config: "Config") -> int:
    """Carry out one action and report it. Returns the exit code: 0 done, 1 failed.

    The configuration is not used, so that the service can be stopped even if it is invalid.
    """
    return _carry_out(arguments.action)


def folder() -> Path:
    r"""`%ProgramData%\qlik-license-exporter`: configuration, state and the service's own log."""
    return Path(os.environ.get("PROGRAMDATA", r"C:\ProgramData")) / SERVICE_NAME


def run_arguments(home: Path) -> list[str]:
    """The command line of the exporter as the service runs it, given its folder."""
    arguments = ["run"]
    for flag, name in (("--config.file", "config.yml"), ("--web.config.file", "web.yml")):
        if (home / name).is_file():
            arguments += [flag, str(home / name)]
    return arguments


def service_sid(name: str = SERVICE_NAME) -> str:
    """The SID of the account `NT SERVICE\\name`, derived from the name, even if there is no such service."""
    digest = hashlib.sha1(name.upper().encode("utf-16-le"), usedforsecurity=False).digest()
    return "S-1-5-80-" + "-".join(str(part) for part in struct.unpack("<5I", digest))


def closed_to_services(folders: Iterable[str], profiles: str) -> str | None:
    """The first of `folders`, which contain Python and its packages, from which the service's account cannot run.

    That is a folder in a person's profile (below `profiles`), which other accounts may not enter, or in the Store's
    folder. Whoever owns the profile could also change what the service runs.
    """
    for folder in folders:
        path = ntpath.normcase(ntpath.normpath(folder)) + "\\"
        if path.startswith(ntpath.normcase(ntpath.normpath(profiles)) + "\\") or "\\windowsapps\\" in path:
            return folder
    return None


def log_folders(patterns: Iterable[str], archives: Iterable[str]) -> tuple[list[str], list[str]]:
    """The folders of the files of `patterns`, and the `archives`: those of this machine, and those of file shares."""
    found = {re.sub(r"[\\/][^\\/]*$", "", re.split(r"[*?\[]", pattern)[0]) for pattern in patterns}
    found |= {archive.rstrip("\\/") for archive in archives if archive}
    remote = {path for path in found if path.startswith(("\\\\", "//"))}
    return sorted(found - remote), sorted(remote)


if sys.platform == "win32":
    import pywintypes
    import servicemanager
    import win32api
    import win32con
    import win32event
    import win32evtlogutil
    import win32file
    import win32profile
    import win32security
    import win32service
    import win32serviceutil
    import winerror

    if TYPE_CHECKING:
        import _win32typing

    def _carry_out(action: str) -> int:
        try:
            {"install": _install, "remove": _remove, "start": _start, "stop": _stop}[action]()
        except (pywintypes.error, OSError) as error:
            print(f"cannot {action} the service {SERVICE_NAME}: {_reason(error)}", file=sys.stderr)
            return 1
        return 0

    def _reason(error: Exception) -> str:
        if not isinstance(error, pywintypes.error):
            return str(error)
        return {
            winerror.ERROR_ACCESS_DENIED: "access denied; use a prompt started with `Run as administrator`",
            winerror.ERROR_SERVICE_DOES_NOT_EXIST: "it is not installed; run `service install`",
            winerror.ERROR_SERVICE_MARKED_FOR_DELETE: "it is still being removed; close the Services window",
            winerror.ERROR_SERVICE_ALREADY_RUNNING: "it is running already",
            winerror.ERROR_SERVICE_NOT_ACTIVE: "it is not running",
        }.get(error.winerror, f"{error.strerror} (error {error.winerror})")

    def _install() -> None:
        """Create or update the service, and prepare its folder and permissions."""
        home = folder()
        of_python = (os.path.dirname(sys.executable), sys.prefix, sys.base_prefix)
        if closed := closed_to_services(of_python, win32profile.GetProfilesDirectory()):
            raise PermissionError(f"the service's account cannot run what is in {closed}; install Python for all users")
        _take_folder(home)
        if not (home / "config.yml").exists():
            (home / "config.yml").write_text(FIRST_CONFIGURATION, encoding="utf-8")
        manager = win32service.OpenSCManager(None, None, win32service.SC_MANAGER_ALL_ACCESS)
        try:
            try:
                service = win32service.OpenService(manager, SERVICE_NAME, win32service.SERVICE_ALL_ACCESS)
            except pywintypes.error as error:
                if error.winerror != winerror.ERROR_SERVICE_DOES_NOT_EXIST:
                    raise
                service = _create(manager)
                done = "is installed"
            else:
                _update(service)
                done = "is up to date"
            account = str(win32service.QueryServiceConfig(service)[7])
            win32service.CloseServiceHandle(service)
        finally:
            win32service.CloseServiceHandle(manager)
        win32evtlogutil.AddSourceToRegistry(SERVICE_NAME, servicemanager.__file__, "Application")
        _grant_rights(home, account)
        print(f"the service {SERVICE_NAME} {done}; it runs as {account} with {home / 'config.yml'}")

    def _create(manager: "_win32typing.PySC_HANDLE") -> "_win32typing.PySC_HANDLE":
        service = win32service.CreateService(
            manager,
            SERVICE_NAME,
            DISPLAY_NAME,
            win32service.SERVICE_ALL_ACCESS,
            win32service.SERVICE_WIN32_OWN_PROCESS,
            win32service.SERVICE_AUTO_START,
            win32service.SERVICE_ERROR_NORMAL,
            _command_line(),
            None,
            False,
            None,
            ACCOUNT,
            "",
        )
        _configure(service)
        return service

    def _update(service: "_win32typing.PySC_HANDLE") -> None:
        """Point the service to this program; keep what an administrator has changed, in particular the account."""
        unchanged = (win32service.SERVICE_NO_CHANGE,) * 3
        win32service.ChangeServiceConfig(
            service, *unchanged, _command_line(), None, False, None, None, None, DISPLAY_NAME
        )

    def _command_line() -> str:
        """What the service manager starts: this Python, or this program where it is a frozen one."""
        if getattr(sys, "frozen", False) or os.path.basename(sys.executable).lower() == f"{SERVICE_NAME}.exe":
            return f'"{sys.executable}" {HOST_ARGUMENT}'
        return f'"{sys.executable}" -I -m exporter.commands.service'

    def _configure(service: "_win32typing.PySC_HANDLE") -> None:
        """Set description, delayed start and restarts; what Windows refuses is reported, but is no failure."""
        restarts = [(win32service.SC_ACTION_RESTART, seconds * 1000) for seconds in RESTART_DELAYS]
        for what, value in (
            (win32service.SERVICE_CONFIG_DESCRIPTION, DESCRIPTION),
            (win32service.SERVICE_CONFIG_DELAYED_AUTO_START_INFO, True),
            (
                win32service.SERVICE_CONFIG_FAILURE_ACTIONS,
                {"ResetPeriod": RESTARTS_FORGOTTEN, "RebootMsg": "", "Command": "", "Actions": restarts},
            ),
            (win32service.SERVICE_CONFIG_FAILURE_ACTIONS_FLAG, True),
        ):
            try:
                win32service.ChangeServiceConfig2(service, what, value)
            except pywintypes.error as error:
                print(f"note: the service manager did not accept setting {what}: {_reason(error)}", file=sys.stderr)

    def _take_folder(home: Path) -> None:
        """Create the service's folder with closed permissions; PermissionError if somebody else created it before.

        Every user may create a folder in ProgramData, and its owner can always change its permissions. The service
        would be granted access to whatever the `config.yml` in it names.
        """
        attributes = win32security.SECURITY_ATTRIBUTES()
        attributes.SECURITY_DESCRIPTOR = win32security.ConvertStringSecurityDescriptorToSecurityDescriptor(
            CLOSED, win32security.SDDL_REVISION_1
        )
        try:
            win32file.CreateDirectory(str(home), attributes)
            return
        except pywintypes.error as error:
            if error.winerror != winerror.ERROR_ALREADY_EXISTS:
                raise
        trusted = {ADMINISTRATORS, SYSTEM, service_sid(), _own_sid(), *_configured_account()}
        _take(str(home), trusted - {service_sid(), *_configured_account()})
        for parent, folders, files in os.walk(home, onerror=_give_up):
            for name in folders + files:
                _take(os.path.join(parent, name), trusted)

    def _take(path: str, trusted: set[str]) -> None:
        """Make all administrators owners of this administrator's files; PermissionError for other owners and links."""
        if win32api.GetFileAttributes(path) & win32con.FILE_ATTRIBUTE_REPARSE_POINT:
            raise PermissionError(f"{path} is a link; remove it, then install again")
        what = win32security.OWNER_SECURITY_INFORMATION
        found = win32security.GetNamedSecurityInfo(path, win32security.SE_FILE_OBJECT, what)
        owner = win32security.ConvertSidToStringSid(found.GetSecurityDescriptorOwner())
        if owner not in trusted:
            raise PermissionError(
                f"{path} belongs to {_account_name(owner)}, who can change it at any time; look through it, then "
                f'delete it, or take it over by `takeown /a /r /f "{folder()}"`, and install again'
            )
        if owner == _own_sid():
            administrators = win32security.ConvertStringSidToSid(ADMINISTRATORS)
            win32security.SetNamedSecurityInfo(
                path, win32security.SE_FILE_OBJECT, what, administrators, None, None, None
            )

    def _give_up(error: OSError) -> None:
        raise error

    def _own_sid() -> str:
        token = win32security.OpenProcessToken(win32api.GetCurrentProcess(), win32con.TOKEN_QUERY)
        try:
            return str(
                win32security.ConvertSidToStringSid(
                    win32security.GetTokenInformation(token, win32security.TokenUser)[0]
                )
            )
        finally:
            win32api.CloseHandle(token)

    def _configured_account() -> set[str]:
        """The SID of the account that an administrator has set for the service; none if there is no service yet."""
        manager = win32service.OpenSCManager(None, None, win32service.SC_MANAGER_CONNECT)
        try:
            service = win32service.OpenService(manager, SERVICE_NAME, win32service.SERVICE_QUERY_CONFIG)
            try:
                account = str(win32service.QueryServiceConfig(service)[7])
            finally:
                win32service.CloseServiceHandle(service)
            return {str(win32security.ConvertSidToStringSid(win32security.LookupAccountName(None, account)[0]))}
        except pywintypes.error:  # no service, or an account that no longer exists
            return set()
        finally:
            win32service.CloseServiceHandle(manager)

    def _account_name(sid: str) -> str:
        try:
            name, domain, _ = win32security.LookupAccountSid(None, win32security.ConvertStringSidToSid(sid))
        except pywintypes.error:
            return sid
        return f"{domain}\\{name}" if domain else str(name)

    def _grant_rights(home: Path, account: str) -> None:
        """Let the service's account change its state and its log, and read its configuration and the logs' folders.

        It may create files in its folder, as SQLite does next to a state file, and change those that it created; it
        can only read the configuration. Raises OSError if a permission cannot be set.
        """
        (home / "log").mkdir(exist_ok=True)
        everything = (f"*{ADMINISTRATORS}:(OI)(CI)F", f"*{SYSTEM}:(OI)(CI)F", f"*{CREATOR_OWNER}:(OI)(IO)M")
        _icacls(str(home), "/inheritance:r", "/grant:r", *everything, f"{account}:(OI)(CI)RX")
        _icacls(str(home), "/grant", f"{account}:(WD)")
        _icacls(str(home / "log"), "/grant:r", f"{account}:(OI)(CI)M")
        for file in home.glob("state.db*"):  # those of an earlier version or account
            _icacls(str(file), "/grant:r", f"{account}:M")
        local, remote = _configured_folders(home)
        for path in local:
            if Path(path).is_dir():
                _icacls(path, "/grant", f"{account}:(OI)(CI)RX")
        for path in remote:
            print(
                f"note: grant this computer's account read access to {path}; the service accesses file shares "
                "as this account"
            )

    def _configured_folders(home: Path) -> tuple[list[str], list[str]]:
        """`log_folders` of the service's configuration; none if that is invalid."""
        from exporter import config

        try:
            logs = [log for _, log in config.load(str(home / "config.yml")).logs.enabled()]
        except config.ConfigError as error:
            print(f"note: permissions on the logs are not changed: {error}", file=sys.stderr)
            return [], []
        return log_folders((path for log in logs for path in log.paths), (log.archive for log in logs))

    def _icacls(path: str, *arguments: str) -> None:
        """Change permissions with Windows' icacls; raises OSError with its output if that fails."""
        program = Path(os.environ.get("SYSTEMROOT", r"C:\Windows"), "System32", "icacls.exe")
        try:
            subprocess.run(  # noqa: S603  # Windows's own program by its full path, arguments of ours
                [str(program), path, *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=ICACLS_SECONDS,
                check=True,
            )
        except (OSError, subprocess.SubprocessError) as error:
            said = (getattr(error, "stderr", b"") or b"").decode(errors="replace").strip()
            raise OSError(f"the permissions on {path} could not be set: {said or error}") from error

    def _remove() -> None:
        """Stop and delete the service; configuration, state and log are kept."""
        if _state() != win32service.SERVICE_STOPPED:
            try:
                _stop()
            except (pywintypes.error, OSError) as error:  # Windows then deletes it when its process ends
                print(f"note: the service {SERVICE_NAME} could not be stopped: {_reason(error)}", file=sys.stderr)
        for path in _configured_folders(folder())[0]:
            if Path(path).is_dir():
                try:
                    _icacls(path, "/remove:g", ACCOUNT)
                except OSError as error:  # what remains is a permission of an account that no longer exists
                    print(f"note: {error}", file=sys.stderr)
        win32serviceutil.RemoveService(SERVICE_NAME)
        with contextlib.suppress(pywintypes.error):  # the event source was removed before
            win32evtlogutil.RemoveSourceFromRegistry(SERVICE_NAME, "Application")
        print(f"the service {SERVICE_NAME} has been removed; configuration and state are kept in {folder()}")

    def _start() -> None:
        win32serviceutil.StartService(SERVICE_NAME)
        _wait_for(win32service.SERVICE_RUNNING, START_SECONDS)
        print(f"the service {SERVICE_NAME} is running")

    def _stop() -> None:
        process = _process()
        try:
            win32serviceutil.StopService(SERVICE_NAME)
            _wait_for(win32service.SERVICE_STOPPED, STOP_SECONDS)
            # "Stopped" is reported before the process ends; until then its files cannot be replaced or removed.
            if process and win32event.WaitForSingleObject(process, STOP_SECONDS * 1000) != win32event.WAIT_OBJECT_0:
                raise TimeoutError(f"it has stopped, but its process has not ended within {STOP_SECONDS} s")
        finally:
            if process:
                win32api.CloseHandle(process)
        print(f"the service {SERVICE_NAME} is stopped")

    def _process() -> int | None:
        """A handle of the service's process, to wait for its end; None if there is none."""
        manager = win32service.OpenSCManager(None, None, win32service.SC_MANAGER_CONNECT)
        try:
            service = win32service.OpenService(manager, SERVICE_NAME, win32service.SERVICE_QUERY_STATUS)
            try:
                number = win32service.QueryServiceStatusEx(service)["ProcessId"]  # type: ignore[index]  # a dict, not what types-pywin32 has
            finally:
                win32service.CloseServiceHandle(service)
            return win32api.OpenProcess(win32con.SYNCHRONIZE, False, number) if number else None
        except pywintypes.error:  # not installed, or ended just now
            return None
        finally:
            win32service.CloseServiceHandle(manager)

    def _state() -> int:
        return int(win32serviceutil.QueryServiceStatus(SERVICE_NAME)[1])

    def _wait_for(state: int, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while _state() != state:
            if time.monotonic() > deadline:
                raise TimeoutError(f"no answer within {seconds:.0f} s; see the Application event log and {folder()}")
            time.sleep(0.1)

    class ExporterService(win32serviceutil.ServiceFramework):
        """The service as the service manager sees it."""

        _svc_name_ = SERVICE_NAME
        _svc_display_name_ = DISPLAY_NAME

        def __init__(self, arguments: list[str]) -> None:
            super().__init__(arguments)
            self._stop = threading.Event()

        def SvcStop(self) -> None:  # noqa: N802  # pywin32's name
            """Ask the exporter to stop; called by the service manager, in a thread of its own."""
            self.ReportServiceStatus(win32service.SERVICE_STOP_PENDING, waitHint=STOP_SECONDS * 1000)
            self._stop.set()

        SvcShutdown = SvcStop

        def SvcDoRun(self) -> None:  # noqa: N802  # pywin32's name
            """Run the exporter until it is asked to stop; called after "running" was reported."""
            log = DatedLog(folder() / "log", SERVICE_NAME)
            sys.stdout = sys.stderr = log
            servicemanager.LogInfoMsg(f"{SERVICE_NAME} started with {folder() / 'config.yml'}")
            codes: list[int] = []
            # In a separate thread: this one is not Python's main thread, where asyncio expects signals.
            thread = threading.Thread(target=lambda: codes.append(_run(self._stop, log)), name="exporter")
            thread.start()
            thread.join()
            code = codes[0] if codes else 1
            if code:
                servicemanager.LogErrorMsg(f"{SERVICE_NAME} failed with code {code}: {log.last_line}")
                # Ending without a report is what makes the service manager restart it, see RESTART_DELAYS.
                os._exit(code)
            servicemanager.LogInfoMsg(f"{SERVICE_NAME} stopped")

    def _run(stop: threading.Event, log: DatedLog) -> int:
        try:
            from exporter import cli
            from exporter.last_words import replace_tracebacks

            replace_tracebacks()
            return cli.main(run_arguments(folder()), stop=stop)
        except SystemExit as ended:  # how argparse rejects arguments
            return ended.code if isinstance(ended.code, int) else 1
        except Exception as error:  # the only place where a broken installation can still be reported
            log.write(f"{type(error).__name__}: {error}\n")
            return 1

    def host() -> None:
        """Run as the service: called by the service manager's command line only."""
        servicemanager.Initialize(SERVICE_NAME, servicemanager.__file__)
        servicemanager.PrepareToHostSingle(ExporterService)
        servicemanager.StartServiceCtrlDispatcher()  # type: ignore[no-untyped-call]  # as types-pywin32 has it

    if __name__ == "__main__":
        host()

else:

    def _carry_out(action: str) -> int:
        print(
            f"cannot {action}: services exist on Windows only; on Linux use the systemd unit (docs/linux.md)",
            file=sys.stderr,
        )
        return 1
