"""What differs between two wheels or two sdists: the members one by one, for where `diffoscope` is not installed."""

import gzip
import hashlib
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

_SHOWN = 20


def members(path: Path) -> dict[str, dict[str, object]]:
    """Name to what is kept of each member, in the archive's order."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            return {
                one.filename: {
                    "mode": oct(one.external_attr >> 16),
                    "time": one.date_time,
                    "system": one.create_system,
                    "compressed": one.compress_size,
                    "size": one.file_size,
                    "sha256": hashlib.sha256(wheel.read(one)).hexdigest(),
                }
                for one in wheel.infolist()
            }
    with tarfile.open(path) as sdist:
        found: dict[str, dict[str, object]] = {}
        for member in sdist:
            file = sdist.extractfile(member)
            found[member.name] = {
                "mode": oct(member.mode),
                "time": member.mtime,
                "owner": (member.uid, member.gid, member.uname, member.gname),
                "size": member.size,
                "sha256": hashlib.sha256(file.read() if file else b"").hexdigest(),
            }
        return found


def differences(first: Path, second: Path) -> list[str]:
    """Lines for a person; none where both files are the same, byte for byte."""
    if first.read_bytes() == second.read_bytes():
        return []
    if program := shutil.which("diffoscope"):
        done = subprocess.run([program, "--text", "-", str(first), str(second)], capture_output=True, text=True)
        if done.returncode == 1 and done.stdout:
            return done.stdout.splitlines()
    lines = told(members(first), members(second))
    if lines:
        return [*lines[:_SHOWN], *([f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else [])]
    if first.suffix == ".gz" and gzip.decompress(first.read_bytes()) == gzip.decompress(second.read_bytes()):
        return ["the same archive, compressed otherwise: another zlib, or the header of gzip"]
    return ["the same members in the same order, packed otherwise"]


def told(first: Mapping[str, Mapping[str, object]], second: Mapping[str, Mapping[str, object]]) -> list[str]:
    """Members that one side lacks, then those that differ and in what, then the order."""
    lines = [f"{name}: only in the first" for name in first if name not in second]
    lines += [f"{name}: only in the second" for name in second if name not in first]
    for name in first:
        if name in second:
            lines += [
                f"{name}: {key} {first[name][key]} and {second[name][key]}"
                for key in first[name]
                if first[name][key] != second[name][key]
            ]
    if not lines and list(first) != list(second):
        place = next(i for i, pair in enumerate(zip(first, second, strict=True)) if pair[0] != pair[1])
        lines.append(f"order: member {place} is {list(first)[place]} and {list(second)[place]}")
    return lines
