"""Builds the MSI for nodes without Python, on Debian: `python deploy/windows/msi.py [FOLDER]` (default: `dist`).

It holds python.org's own files of Python 3.11 for Windows (the DLL's digest is checked), the wheels whose digests
`deploy/release/requirements.txt` names, and a small program of ours that starts them. Needs wixl, msibuild and
mingw-w64 (`apt-get install wixl msitools gcc-mingw-w64-x86-64-win32`), a Python 3.11, and the development requirements.

MSI_KEY and MSI_CERTIFICATE (PEM files) sign it with osslsigncode. The same source, Python and tools: the same bytes.
"""
# ruff: noqa: S603, S608 - it runs the tools of the developer who called it; the queries are of our own constants

import compileall
import hashlib
import os
import py_compile
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import quoteattr

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "release"))

import sums  # noqa: E402  # a neighbour, found only by the line above
from dist import PROJECT, BrokenClaimError, build, project_files, source_date  # noqa: E402  # as above
from windows import requirements  # noqa: E402  # as above

NAME = "qlik-license-exporter"
TITLE = "Qlik license exporter for Prometheus"
CARRIERS = {
    "panda3d==1.10.16": "37acfb92655c4226879f95c988e2ef1449a53c54486d6c1ebc00e2772429af82",
    "msvc-runtime==14.44.35112": "aba7fbe71897d25ed53fbb7f391e9f50289378a8a9ae218ba18530c663448391",
}
"""The wheels for Windows that carry python.org's signed files of 3.11.9, and Microsoft's vcruntime140_1.dll, with their
digests: python.org and Microsoft are not asked."""
DLL_DIGEST = "0817a2a657a24c0d5fbb60df56960f42fc66b3039d522ec952dab83e2d869364"
NOT_SHIPPED = re.compile(r"api-ms-win-|tcl|tk|_tkinter|winsound|_msi\.", re.IGNORECASE)
"""Windows has the first since Windows 10; the exporter needs none of the others."""
LEFT_OUT = shutil.ignore_patterns(
    *(
        "test",
        "tests",
        "lib-dynload",
        "site-packages",
        "dist-packages",
        "config-3.11*",
        "_sysconfigdata*",
        "__pycache__",
    ),
    *(
        "idlelib",
        "turtledemo",
        "tkinter",
        "lib2to3",
        "ensurepip",
        "distutils",
        "pydoc_data",
        "*.so",
        "sitecustomize.py",
    ),
    *("turtle.py", "EXTERNALLY-MANAGED", "msilib", "venv"),
)
PYWIN32 = {
    *(
        "_win32sysloader.pyd",
        "servicemanager.pyd",
        "win32api.pyd",
        "win32event.pyd",
        "win32evtlog.pyd",
        "win32file.pyd",
    ),
    *("win32process.pyd", "win32profile.pyd", "win32security.pyd", "win32service.pyd", "license.txt"),
}
"""What of pywin32's `win32` the service and its command need."""
OF_US = uuid.UUID("6f3a1a9a-8a34-4c0e-9b39-3b8f3f2f9a55")
"""What all our GUIDs are made from: each is the same in each build, a component's in each version, too."""
UPGRADE_CODE = "{B1B7C1E4-6C0F-4B57-9E0E-7C0F3C3B6C11}"
ADMINISTRATORS_ONLY, DEFERRED, IGNORED = 2048, 1024, 64
COMMAND_LINE = 34
"""Types of custom actions: without impersonation; within the transaction; its failure is none; a command line."""


def main() -> int:
    """Build it, and say where it is: 0, or 1 with what failed."""
    folder = Path(sys.argv[1] if sys.argv[1:] else PROJECT / "dist").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if sys.version_info[:2] != (3, 11):
            raise BrokenClaimError("it needs Python 3.11, whose standard library it takes")
        with tempfile.TemporaryDirectory() as work:
            made = make(folder, Path(work))
    except (BrokenClaimError, subprocess.CalledProcessError, OSError) as problem:
        said = getattr(problem, "stderr", None) or b""
        print(f"msi: {problem}\n{said if isinstance(said, str) else said.decode(errors='replace')}", file=sys.stderr)
        return 1
    sums.note(folder, [made.name])
    print(made)
    return 0


def make(folder: Path, work: Path) -> Path:
    """The MSI in `folder`; `work` is a folder of ours, with the installed files in `tree` afterwards."""
    wheel = build(project_files(), work / "source", umask=0o022)[0]
    lay_out(work / "tree", wheel, work)
    return pack(work / "tree", wheel.name.split("-")[1], folder)


def pack(tree: Path, version: str, folder: Path) -> Path:
    """The MSI of `version` that installs `tree`."""
    seconds = int(source_date())
    for path in tree.rglob("*"):
        os.utime(path, (seconds, seconds))
    product, draft = tree.parent / "product.wxs", tree.parent / "product.msi"
    product.write_text(wxs(tree, version))
    assemble(product, draft)
    for query in QUERIES:
        run("msibuild", draft, "-q", query)
    set_summary(draft, version, seconds)
    made = Path(shutil.move(draft, folder / f"{NAME}-{version}-x64.msi"))
    if key_file := os.environ.get("MSI_KEY"):
        sign(made, key_file, os.environ["MSI_CERTIFICATE"], seconds)
    return made


def assemble(product: Path, made: Path) -> None:
    """Let wixl build. BrokenClaimError for whatever it says: it drops what it does not know, with a mere warning."""
    done = run("wixl", "--arch", "x64", "--output", made, product, cwd=product.parent)
    if done.stdout + done.stderr:
        raise BrokenClaimError(f"wixl says: {done.stdout}{done.stderr}")


def run(*command: str | Path, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """Run a tool; CalledProcessError where it fails."""
    environment = {**os.environ, "SOURCE_DATE_EPOCH": source_date()}
    return subprocess.run([*map(str, command)], cwd=cwd, check=True, capture_output=True, text=True, env=environment)


# --- what is in it


def lay_out(tree: Path, wheel: Path, work: Path) -> None:
    """The installed folder: program, Python, its standard library as a zip, packages."""
    tree.mkdir()
    pip = [sys.executable, "-m", "pip", "-qq", "--disable-pip-version-check"]
    windows = [
        "--platform",
        "win_amd64",
        "--python-version",
        "3.11",
        "--implementation",
        "cp",
        "--only-binary",
        ":all:",
    ]
    pins = "".join(f"{name} --hash=sha256:{digest}\n" for name, digest in CARRIERS.items())
    (work / "carriers.txt").write_text(pins)
    download = ("download", "--no-deps", "--require-hashes", *windows, "--dest", work / "python")
    run(*pip, *download, "--requirement", work / "carriers.txt")
    for carrier in (work / "python").glob("*.whl"):
        with zipfile.ZipFile(carrier) as archive:
            for entry in archive.namelist():
                name = entry.rpartition("/")[2]
                ours = entry.startswith("deploy_libs/") and name and not NOT_SHIPPED.match(name)
                if ours or entry.endswith("/Scripts/vcruntime140_1.dll"):
                    (tree / name).write_bytes(archive.read(entry))
    if sums.digest(tree / "python311.dll") != DLL_DIGEST:
        raise BrokenClaimError("python311.dll is not the expected file")
    compile_programs(tree, work)
    write_library(tree / "python311.zip", work)
    (work / "requirements.txt").write_text(requirements(wheel))
    packages = tree / "packages"
    dependencies = [*pip, "install", "--no-compile", *windows, "--target", packages, "--require-hashes"]
    (work / "wheels").mkdir()
    shutil.copy(wheel, work / "wheels")
    run(*dependencies, "--find-links", work / "wheels", "--requirement", work / "requirements.txt")
    leave_out_pywin32(packages)
    for info in packages.glob("*.dist-info"):
        for name in ("direct_url.json", "REQUESTED", "RECORD"):  # differ from build to build
            (info / name).unlink(missing_ok=True)
    # Beside the program, where Windows looks; pythoncom311.dll is for COM.
    (packages / "pywin32_system32" / "pywintypes311.dll").rename(tree / "pywintypes311.dll")
    shutil.rmtree(packages / "pywin32_system32")
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH  # nobody but an installer changes them
    compileall.compile_dir(packages, quiet=2, stripdir=str(tree), invalidation_mode=unchecked, workers=1)
    # Python looks nowhere else: neither the registry nor anybody's environment can add a folder.
    paths = (".", "python311.zip", "packages", "packages\\win32", "packages\\win32\\lib")
    (tree / "python311._pth").write_text("".join(f"{path}\r\n" for path in paths))
    stdlib = Path(sysconfig.get_path("stdlib"))
    shutil.copy(stdlib / "LICENSE.txt", tree / "LICENSE-Python.txt")
    shutil.copy(PROJECT / "LICENSE", tree / "LICENSE.txt")


def leave_out_pywin32(packages: Path) -> None:
    """Of pywin32 only what a service needs: the rest is a development environment, COM and drawing."""
    for name in (
        "pythonwin",
        "bin",
        "adodbapi",
        "isapi",
        "win32com",
        "win32comext",
        "PyWin32.chm",
        "pywin32.pth",
        "pythoncom.py",
    ):
        path = packages / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for path in (packages / "win32").iterdir():
        if path.name not in PYWIN32 and path.name != "lib":
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def compile_programs(tree: Path, work: Path) -> None:
    """Our program, and python3.dll, which passes the stable ABI of some wheels on to python311.dll."""
    gcc = ("x86_64-w64-mingw32-gcc", "-O2", "-s", "-Wl,--no-insert-timestamp")
    run(*gcc, "-municode", "-Wall", "-o", tree / f"{NAME}.exe", HERE / "launcher.c")
    listed = run("x86_64-w64-mingw32-objdump", "-p", tree / "python311.dll").stdout
    table = listed.partition("[Ordinal/Name Pointer] Table")[2].partition("\n\n")[0]
    names = re.findall(r"^\t\[ *\d+\] (\S+)$", table, re.MULTILINE) or re.findall(
        r"\] (?:\+base\[ *\d+\] +\w+ )?(\S+)$", table, re.M
    )
    if len(names) < 1000:
        raise BrokenClaimError("the exports of python311.dll cannot be read")
    exports = "".join(f"  {name}=python311.{name}\n" for name in names)
    (work / "python3.def").write_text(f"LIBRARY python3.dll\nEXPORTS\n{exports}")
    (work / "python3.c").write_text("int DllMain(void *a, unsigned b, void *c) { return 1; }\n")
    # The linker would make a DLL's address of its path, which differs from build to build.
    library = (*gcc, "-shared", "-Wl,--image-base,0x1e0000000", "-nostdlib", "-e", "DllMain")
    run(*library, "-o", tree / "python3.dll", work / "python3.c", work / "python3.def")


def write_library(path: Path, work: Path) -> None:
    """The compiled standard library of the running Python 3.11, as python.org's own folder without installer has it."""
    library = work / "library"
    shutil.copytree(sysconfig.get_path("stdlib"), library, ignore=LEFT_OUT, ignore_dangling_symlinks=True)
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    compileall.compile_dir(library, quiet=2, legacy=True, stripdir=str(library), invalidation_mode=unchecked)
    stamp = time.gmtime(int(source_date()))[:6]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(library.rglob("*.pyc")):
            archive.writestr(zipfile.ZipInfo(file.relative_to(library).as_posix(), stamp), file.read_bytes())


# --- the tables


def guid(text: str) -> str:
    """The GUID that stands for `text`."""
    return f"{{{str(uuid.uuid5(OF_US, text)).upper()}}}"


def key(path: str, kind: str) -> str:
    """A name for a table's row, made of a path."""
    return f"{kind}_{hashlib.sha256(path.encode()).hexdigest()[:24]}"


def wxs(tree: Path, version: str) -> str:
    """What wixl builds: one component for each file, the service beside its program."""
    components: list[str] = []

    def folder(path: Path) -> Iterator[str]:
        for entry in sorted(path.iterdir()):
            inside = entry.relative_to(tree).as_posix()
            if entry.is_dir():
                yield f"<Directory Id={quoteattr(key(inside, 'D'))} Name={quoteattr(entry.name)}>"
                yield from folder(entry)
                yield "</Directory>"
                continue
            components.append(key(inside, "C"))
            source = quoteattr(entry.relative_to(tree.parent).as_posix())
            yield f"<Component Id={quoteattr(key(inside, 'C'))} Guid={quoteattr(guid(inside))} Win64='yes'>"
            yield f"<File Id={quoteattr(key(inside, 'F'))} Name={quoteattr(entry.name)} Source={source} KeyPath='yes'/>"
            if inside == f"{NAME}.exe":
                yield SERVICE
            yield "</Component>"

    files = "\n".join(folder(tree))
    listed = "".join(f"<ComponentRef Id='{component}'/>\n" for component in components)
    return f"""<?xml version='1.0' encoding='utf-8'?>
<Wix xmlns='http://schemas.microsoft.com/wix/2006/wi'>
<Product Id='{guid(f"product {version}")}' Name='{TITLE}' Language='1033' Version='{version}'
 Manufacturer='The {NAME} authors' UpgradeCode='{UPGRADE_CODE}'>
<Package InstallerVersion='500' Compressed='yes' InstallScope='perMachine'
 Description='{TITLE}' Manufacturer='The {NAME} authors'/>
<MajorUpgrade DowngradeErrorMessage='A newer version is installed already.'/>
<Media Id='1' Cabinet='files.cab' EmbedCab='yes'/>
<Property Id='PORT' Value='10188'/>
<Property Id='ARPNOMODIFY' Value='1'/>
<Directory Id='TARGETDIR' Name='SourceDir'>
<Directory Id='ProgramFiles64Folder'>
<Directory Id='INSTALLDIR' Name='{NAME}'>
{files}
</Directory></Directory></Directory>
<Feature Id='Everything' Level='1'>
{listed}</Feature>
</Product>
</Wix>
"""


SERVICE = f"""<ServiceInstall Id='Service' Name='{NAME}' DisplayName='{TITLE}' Type='ownProcess' Start='auto'
 ErrorControl='normal' Account='NT SERVICE\\{NAME}' Arguments='service-host'
 Description="Reads Qlik Sense's license logs, probes the license backend, and serves Prometheus metrics."/>
<ServiceControl Id='Control' Name='{NAME}' Start='install' Stop='both' Remove='uninstall' Wait='yes'/>"""
SERVICE_COMPONENT = key(f"{NAME}.exe", "C")
INSTALLED = 'NOT REMOVE~="ALL"'
REMOVED_FOR_GOOD = 'REMOVE~="ALL" AND NOT UPGRADINGPRODUCTCODE'
RULE = "[System64Folder]netsh.exe advfirewall firewall"
ACTIONS = (
    # name, ignored, command line, sequence, condition
    ("ServiceEnded", IGNORED, f'"[INSTALLDIR]{NAME}.exe" service stop', 1899, 'REMOVE~="ALL"'),
    ("ServiceRights", 0, f'"[INSTALLDIR]{NAME}.exe" service install', 5860, INSTALLED),
    ("RuleRenewed", IGNORED, f"{RULE} delete rule name={NAME}", 5870, f"ALLOW_FROM AND {INSTALLED}"),
    (
        "RuleAdded",
        0,
        f"{RULE} add rule name={NAME} dir=in action=allow protocol=TCP localport=[PORT] remoteip=[ALLOW_FROM]",
        5871,
        f"ALLOW_FROM AND {INSTALLED}",
    ),
    ("RuleRemoved", IGNORED, f"{RULE} delete rule name={NAME}", 1950, REMOVED_FOR_GOOD),
)
"""What the service needs beside its table: the end of its process before its files are removed, its folder and rights,
and a firewall rule for the addresses given."""


def table(name: str, columns: str, *rows: str) -> Iterator[str]:
    """The queries that make a table with these rows."""
    yield f"CREATE TABLE `{name}` ({columns})"
    names = ", ".join(re.findall(r"`\w+`", columns.partition(" PRIMARY")[0]))
    for row in rows:
        yield f"INSERT INTO `{name}` ({names}) VALUES ({row})"


def queries() -> Iterator[str]:
    """What wixl cannot say: recovery, delayed start, and the actions above."""
    yield from table(
        "MsiServiceConfig",
        "`MsiServiceConfig` CHAR(72) NOT NULL, `Name` CHAR(255) NOT NULL, `Event` SHORT NOT NULL, "
        "`ConfigType` LONG NOT NULL, `Argument` CHAR(0), `Component_` CHAR(72) NOT NULL PRIMARY KEY `MsiServiceConfig`",
        f"'Delayed', '{NAME}', 1, 3, '1', '{SERVICE_COMPONENT}'",  # 3: delayed automatic start
        f"'Failures', '{NAME}', 1, 4, '1', '{SERVICE_COMPONENT}'",  # 4: an exit with a code counts as a failure
    )
    yield from table(
        "MsiServiceConfigFailureActions",
        "`MsiServiceConfigFailureActions` CHAR(72) NOT NULL, `Name` CHAR(255) NOT NULL, `Event` SHORT NOT NULL, "
        "`ResetPeriod` LONG, `RebootMessage` CHAR(255) LOCALIZABLE, `Command` CHAR(255) LOCALIZABLE, "
        "`Actions` CHAR(0), `DelayActions` CHAR(0), "
        "`Component_` CHAR(72) NOT NULL PRIMARY KEY `MsiServiceConfigFailureActions`",
        f"'Restart', '{NAME}', 1, 86400, '', '', '1[~]1[~]1', '5000[~]30000[~]60000', '{SERVICE_COMPONENT}'",
    )
    for name, ignored, line, _, _ in ACTIONS:
        kind = COMMAND_LINE + DEFERRED + ADMINISTRATORS_ONLY + ignored
        yield (
            "INSERT INTO `CustomAction` (`Action`, `Type`, `Source`, `Target`) "
            f"VALUES ('{name}', {kind}, 'INSTALLDIR', '{line}')"
        )
    sequence = "INSERT INTO `InstallExecuteSequence` (`Action`, `Condition`, `Sequence`) VALUES"
    yield f"{sequence} ('MsiConfigureServices', 'VersionMsi >= \"5.00\"', 5850)"
    for name, _, _, place, condition in ACTIONS:
        yield f"{sequence} ('{name}', '{condition}', {place})"

    secure = "WIX_DOWNGRADE_DETECTED;WIX_UPGRADE_DETECTED;ALLOW_FROM;PORT"
    yield f"UPDATE `Property` SET `Value` = '{secure}' WHERE `Property` = 'SecureCustomProperties'"


QUERIES = tuple(queries())


# --- the file as a whole


FILE_TIME, EPOCH = b"\x40\0\0\0", 11644473600
"""How a time begins in the summary; seconds from 1601, where Windows's times begin, to 1970."""


def set_summary(made: Path, version: str, seconds: int) -> None:
    """The package code and the times: wixl takes random ones and now."""
    run("msibuild", made, "-s", TITLE, f"The {NAME} authors", "x64;1033", guid(f"package {version} {seconds}"))
    now, hour = time.time(), 3600

    def fixed(found: re.Match[bytes]) -> bytes:
        recent = abs(int.from_bytes(found[1], "little") / 1e7 - EPOCH - now) < hour
        return FILE_TIME + ((seconds + EPOCH) * 10**7).to_bytes(8, "little") if recent else found[0]

    made.write_bytes(re.sub(re.escape(FILE_TIME) + b"(.{8})", fixed, made.read_bytes(), flags=re.DOTALL))


def sign(made: Path, key_file: str, certificate: str, seconds: int) -> None:
    """Sign by osslsigncode, with a key of the caller's."""
    signed = made.with_suffix(".signed")
    words = ("-certs", certificate, "-key", key_file, "-h", "sha256", "-n", TITLE, "-st", str(seconds))
    run("osslsigncode", "sign", *words, "-in", made, "-out", signed)
    signed.replace(made)


if __name__ == "__main__":
    sys.exit(main())
