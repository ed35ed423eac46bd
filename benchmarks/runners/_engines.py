"""One small shop run whole on an engine, in a process of its own, and the sum of the tables that it made."""

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from topkin.artifacts import runs, storage
from topkin.synthetic.shop import Shop

SHOP = Shop(users=60, items=40, purchases=800, seed=5)
SETS = ("train.epochs=0", "run.parts=4")
"""A closed form, so that no training stands in the way."""
PROGRAMS = Path(__file__).parents[2] / ".venv" / "bin" / "beam"
"""Where ``make runners`` builds Prism and the program that starts workers in Beam's images."""
ANYWAY = ("--publish-anyway", "engines are compared")
IN_MEMORY: tuple[str, ...] = ()
TWO_PROCESSES = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")
EMBEDDED = ("--runner=PortableRunner", "--job_endpoint=embed", "--environment_type=LOOPBACK")

# Prism 2.77 puts quotes round the worker's id.
_BOOT = """#!/usr/bin/env bash
export PATH={venv}/bin:$PATH HOME={home} TMPDIR={home} PYTHONPATH= RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1
cd {home} && exec {boot} --semi_persist_dir={home} "${{@//\\'/}}"
"""


def program(name: str) -> str | None:
    """The path of ``prism`` or ``container``, by ``TOPKIN_PRISM`` and ``TOPKIN_CONTAINER`` or built by make."""
    path = os.environ.get(f"TOPKIN_{name.upper()}") or str(PROGRAMS / name)
    return path if os.path.isfile(path) else None


def bare_worker(folder: Path, boot: str) -> str:
    """What starts a worker that has all packages of this environment but topkin, and an empty disk of its own.

    Args:
        folder: A new one.
        boot: The program of Beam's images.

    Returns:
        The value of ``--environment_config``.
    """
    venv, packages, home = folder / "venv", folder / "packages", folder / "home"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    packages.mkdir()
    home.mkdir()
    sites = [Path(path) for path in reversed(sys.path) if path.endswith("site-packages")]
    places = {place.name: place for site in sites for place in site.iterdir()}
    for place in places.values():
        if not re.match(r"(__editable__\S*)?topkin|pip\b|setuptools\b|pip-|setuptools-|\S+\.pth", place.name):
            (packages / place.name).symlink_to(place)
    (site,) = venv.glob("lib/python*/site-packages")
    (site / "packages.pth").write_text(f"{packages}\n")
    script = folder / "boot.sh"
    script.write_text(_BOOT.format(venv=venv, home=home, boot=boot))
    script.chmod(0o755)
    return f'{{"command": "{script}"}}'


def configure(lake: str, output: str, config: Path, *, write: bool = True) -> None:
    """Write the shop's configuration, and its tables unless they are there."""
    if write:
        SHOP.write(lake)
    config.write_text(SHOP.config_toml(lake, output=output))


def command(config: Path, flags: Sequence[str], *options: str) -> list[str]:
    """What runs all of it. options: of ``topkin run``."""
    sets = [word for pair in SETS for word in ("--set", pair)]
    date = f"{SHOP.as_of:%Y-%m-%d}"
    words = [
        "run",
        "--config",
        str(config),
        "--as-of",
        date,
        *sets,
        "--publish-anyway",
        "engines are compared",
        *options,
    ]
    return [sys.executable, "-m", "topkin", *words, "--", *flags]


def run(config: Path, flags: Sequence[str], *options: str) -> str:
    """Run all stages; returns what was said, raises CalledProcessError with it."""
    done = subprocess.run(command(config, flags, *options), capture_output=True, text=True, check=False)
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, "topkin run", done.stdout, done.stderr)
    return done.stderr


def _rejects(path: str) -> bytes:
    """The rows of a table of rejects, whose files are told by their names alone: the lake lies elsewhere."""
    table = storage.read_parquet(path)
    names = [file.rpartition("/")[2] for file in table["file"].to_pylist()]
    return repr(table.drop_columns(["file"]).to_pylist() + names).encode()


def checksum(output: str) -> str:
    """SHA-256 over the name and bytes of every Parquet file of the published run, by stage; of rejects over the rows.

    Raises LookupError where nothing is published, or the tables of a stage are not there.
    """
    if (live := runs.published(output)) is None:
        raise LookupError(f"nothing is published in {output}")
    digest = hashlib.sha256()
    for stage in ("prepare", "embed", "recommend", "similar", "evaluate"):
        names = [name for name in storage.files(live.folder(stage)) if name.endswith(".parquet")]
        if not names:
            raise LookupError(f"{stage} made no table")
        for name in sorted(names):
            digest.update(f"{stage}/{name}\0".encode())
            path = storage.join(live.folder(stage), name)
            digest.update(_rejects(path) if name.startswith("rejects/") else storage.read_bytes(path))
    return digest.hexdigest()
