"""Writes the revision into each wheel and sdist as `exporter/revision.txt`, from which `build_info` reads it.

It is that of the repository, of $SOURCE_REVISION where a copy without a repository is built, or of the unpacked sdist.
"""

import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

TARGET = "exporter/revision.txt"


class RevisionHook(BuildHookInterface):
    """Called by hatchling; an editable installation gets no revision, for its files change."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the file where the revision is known."""
        kept = Path(self.root) / TARGET
        found = revision(self.root)
        if version == "editable" or kept.exists() or not found:
            return
        self._made = tempfile.NamedTemporaryFile("w", suffix=".txt", delete=False)  # noqa: SIM115  # read after this
        with self._made as file:
            file.write(f"{found}\n")
        os.chmod(file.name, 0o644)
        build_data["force_include"][file.name] = TARGET

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was made."""
        if made := getattr(self, "_made", None):
            os.unlink(made.name)


def revision(root: str) -> str:
    """The commit of $SOURCE_REVISION, or of the repository at `root`; empty where there is none."""
    found = os.environ.get("SOURCE_REVISION", "")
    if not found and (Path(root) / ".git").exists():
        # The program as the path has it: whoever builds from a repository has git.
        asked = ["git", "-C", root, "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
        found = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603
    return found if re.fullmatch(r"[0-9a-f]{40,64}(-dirty)?", found) else ""
