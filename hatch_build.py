"""Build hook: the bill of materials goes into the wheel, where installers and scanners look for it (PEP 770)."""

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class BillOfMaterials(BuildHookInterface[Any]):
    """Made from the tree that is built, at its build; a tree whose locks do not fit is not built."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        sys.path.insert(0, self.root)  # this tree's own, whatever else is installed
        try:
            from node.release.sbom import NAME, bill, epoch_of
        finally:
            sys.path.remove(self.root)
        self.folder = tempfile.mkdtemp(prefix="sbom-")
        path = Path(self.folder) / NAME
        path.write_bytes(bill(Path(self.root), epoch=epoch_of(dict(os.environ))))
        build_data["sbom_files"].append(str(path))

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if version != "editable":
            shutil.rmtree(self.folder)
