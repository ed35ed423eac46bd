"""topkin as it is installed here, made into one file for workers elsewhere: a wheel, or a source distribution.

Written by hand from the installed files, so that it needs no build tools and is the code that runs here, a checkout's
too. Its version ends with a hash of the source, ``0.1.0+g1a2b3c4d5e6f``: pip installs it over another topkin of an
image, and a worker can tell which it has.
"""

import base64
import hashlib
import io
import os
import shutil
import tarfile
import tempfile
import zipfile
from functools import cache, partial
from importlib import metadata
from pathlib import Path

from topkin.artifacts import runs
from topkin.ending import signals

TAKEN = (".py", ".j2", ".js", ".typed")
_SINCE = (1980, 1, 1, 0, 0, 0)


def version() -> str:
    """The version with the source's hash."""
    return f"{metadata.version('topkin').partition('+')[0]}+g{runs.source_hash(_root())[:12]}"


def _root() -> Path:
    return Path(runs.__file__).parents[1]


def _files() -> dict[str, bytes]:
    """The package's files by their names in it; sub-packages that a checkout links count as if they lay there."""
    root, files = _root(), {}
    for folder, below, names in os.walk(root, followlinks=True):
        below[:] = sorted(name for name in below if name != "__pycache__")
        for name in sorted(names):
            if name.endswith(TAKEN):
                path = Path(folder, name)
                files[f"topkin/{path.relative_to(root).as_posix()}"] = path.read_bytes()
    return files


def _metadata() -> bytes:
    text = metadata.distribution("topkin").read_text("METADATA") or ""
    head, _, body = text.partition("\n\n")
    lines = [f"Version: {version()}" if line.startswith("Version: ") else line for line in head.splitlines()]
    return "\n".join([*lines, "", body]).encode()


@cache
def build(kind: str) -> str:
    """The path of the ``wheel`` or ``sdist``, made once a process and removed at its end."""
    folder = tempfile.mkdtemp(prefix="topkin-package-")
    signals.at_end(partial(shutil.rmtree, folder, ignore_errors=True))
    return (write_wheel if kind == "wheel" else write_sdist)(folder)


def write_wheel(folder: str) -> str:
    """A wheel in a folder; the same bytes of the same files. Returns its path."""
    name = f"topkin-{version()}"
    info, files = f"{name}.dist-info", _files()
    files[f"{info}/METADATA"] = _metadata()
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: topkin\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/entry_points.txt"] = b"[console_scripts]\ntopkin = topkin.pipelines.cli.app:main\n"
    digests = {n: base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=") for n, data in files.items()}
    record = [f"{n},sha256={digests[n].decode()},{len(data)}" for n, data in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""]).encode()
    path = os.path.join(folder, f"{name}-py3-none-any.whl")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for member, data in files.items():
            wheel.writestr(zipfile.ZipInfo(member, _SINCE), data, zipfile.ZIP_DEFLATED)
    return path


def write_sdist(folder: str) -> str:
    """A source distribution in a folder, which pip builds with setuptools. Returns its path."""
    name = f"topkin-{version()}"
    needs = [r.partition(";")[0].strip() for r in metadata.requires("topkin") or () if "extra ==" not in r]
    setup = (
        "from setuptools import find_packages, setup\n"
        f"setup(name='topkin', version={version()!r}, packages=find_packages(), include_package_data=True,\n"
        f"      package_data={{'': ['*.j2', '*.js', 'py.typed']}}, install_requires={needs!r})\n"
    )
    files = {**_files(), "PKG-INFO": _metadata(), "setup.py": setup.encode()}
    path = os.path.join(folder, f"{name}.tar.gz")
    with tarfile.open(path, "w:gz") as archive:
        for member, data in files.items():
            entry = tarfile.TarInfo(f"{name}/{member}")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path
