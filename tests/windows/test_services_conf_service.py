"""Where Qlik is on another drive, the Service Dispatcher's `services.conf` is found beside its program."""

import winreg
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.services_conf import SERVICES_KEY, licenses_service_proxy

SERVICE_KEY = rf"{SERVICES_KEY}\QlikSenseServiceDispatcher"

pytestmark = pytest.mark.windows


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Path]:
    """A program that Windows believes to be the Service Dispatcher's."""
    yield tmp_path / "Qlik Sense" / "ServiceDispatcher" / "ServiceDispatcher.exe"
    winreg.DeleteKey(winreg.HKEY_LOCAL_MACHINE, SERVICE_KEY)


@pytest.mark.parametrize("command", ['"{}"', '"{}" -service', "{}", "{} -service"])
def test_services_conf_is_found_beside_the_installed_service(command: str, program: Path) -> None:
    program.parent.mkdir(parents=True)
    with winreg.CreateKey(winreg.HKEY_LOCAL_MACHINE, SERVICE_KEY) as key:
        winreg.SetValueEx(key, "ImagePath", 0, winreg.REG_EXPAND_SZ, command.format(program))
    assert licenses_service_proxy({"ProgramFiles": r"C:\nowhere"}).state == "missing"
    (program.parent / "services.conf").write_text("[licenses.parameters]\n-proxy-uri=http://proxy.example.com:3128\n")
    found = licenses_service_proxy({"ProgramFiles": r"C:\nowhere"})
    assert found.url == "http://proxy.example.com:3128"
    assert found.file == str(program.parent / "services.conf")
