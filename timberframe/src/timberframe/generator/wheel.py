"""The wheel of the installed frame: what a new project installs, and what it is started from."""

import base64
import csv
import hashlib
import io
import json
import subprocess
import sys
from importlib.metadata import Distribution, PackagePath, distribution
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from timberframe.generator.spec import CannotGenerate

# What an installer adds to the files of a wheel.
_INSTALLED = {"INSTALLER", "REQUESTED", "RECORD", "direct_url.json"}


def make_wheel(folder: Path) -> Path:
    """Write the wheel of the frame that runs this code into `folder`."""
    frame = distribution("timberframe")
    origin = json.loads(frame.read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):
        return _build(Path(url2pathname(urlsplit(origin["url"]).path)), folder)
    return _pack(frame, folder)


def _build(source: Path, folder: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotGenerate(f"{source}: its wheel cannot be built: {done.stderr.strip()}")
    return next(folder.glob("*.whl"))


def _pack(frame: Distribution, folder: Path) -> Path:
    """Put the installed files together again; the same files give the same bytes."""
    files = [file for file in frame.files or () if _was_in_wheel(file)]
    wheel = folder / f"{frame.name}-{frame.version}-py3-none-any.whl"
    record = io.StringIO()
    rows = csv.writer(record, lineterminator="\n")
    with ZipFile(wheel, "w", ZIP_DEFLATED) as archive:
        for file in sorted(files, key=str):
            content = Path(str(file.locate())).read_bytes()
            archive.writestr(_entry(file.as_posix()), content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest())
            rows.writerow((file.as_posix(), f"sha256={digest.decode().rstrip('=')}", len(content)))
        listing = f"{frame.name}-{frame.version}.dist-info/RECORD"
        rows.writerow((listing, "", ""))
        archive.writestr(_entry(listing), record.getvalue())
    return wheel


def _was_in_wheel(file: PackagePath) -> bool:
    """Not made by the installer: neither its notes, nor bytecode, nor scripts."""
    is_inside = file.parts[0] not in ("..", "/")
    return is_inside and file.name not in _INSTALLED and file.suffix != ".pyc"


def _entry(path: str) -> ZipInfo:
    entry = ZipInfo(path)  # of 1980, whenever the file was installed
    entry.compress_type = ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    return entry
