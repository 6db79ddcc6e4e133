"""The programs of others that tests ask over npm: installed once, in the tests' environment, from the locked versions."""

import json
import shutil
import subprocess
import sys
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).parent / "npm"


def installed() -> Path:
    """The folder with the scripts of `tests/npm` and what they import; a change of the lock makes a new one."""
    lock = sha256((SCRIPTS / "package-lock.json").read_bytes()).hexdigest()[:12]
    folder = Path(sys.prefix) / f"npm-{lock}"
    if not folder.is_dir():
        assert shutil.which("npm"), "needs npm: apt-get install nodejs npm"
        with tempfile.TemporaryDirectory(dir=sys.prefix) as work:
            new = Path(work) / "npm"
            shutil.copytree(SCRIPTS, new)
            done = subprocess.run(["npm", "ci", "--silent"], cwd=new, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
            if not folder.is_dir():  # another test may have been faster
                new.rename(folder)
    for script in SCRIPTS.glob("*.mjs"):
        shutil.copy(script, folder)
    return folder


def asked(script: str, question: object) -> list[Any]:
    """What the script of `tests/npm` answers."""
    command = ["node", installed() / script]
    done = subprocess.run(command, input=json.dumps(question), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    answer: list[Any] = json.loads(done.stdout)
    return answer
