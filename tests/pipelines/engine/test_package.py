"""What is sent to workers: installed by pip, it is the code that runs here."""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from topkin.artifacts import runs
from topkin.pipelines.engine import package

ROOT = Path(runs.__file__).parents[1]


def test_pip_installs_the_wheel_and_it_is_the_code_that_runs_here(tmp_path: Path) -> None:
    wheel = package.build("wheel")
    assert package.build("wheel") == wheel  # once a process
    assert Path(wheel).read_bytes() == Path(package.write_wheel(str(tmp_path))).read_bytes()
    target = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target)]
    subprocess.run([*pip, "--disable-pip-version-check", wheel], check=True, capture_output=True)
    assert runs.source_hash(target / "topkin") == runs.source_hash(ROOT)
    (programs,) = target.glob("*.dist-info/METADATA")
    assert f"\nVersion: {package.version()}\n" in programs.read_text()
    assert package.version().endswith(f"+g{runs.source_hash(ROOT)[:12]}")
    assert "\nRequires-Dist: apache-beam" in programs.read_text()
    assert (target / "bin" / "topkin").exists()


def test_the_source_distribution_has_the_same_code(tmp_path: Path) -> None:
    with tarfile.open(package.write_sdist(str(tmp_path))) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert runs.source_hash(folder / "topkin") == runs.source_hash(ROOT)
    assert "'apache-beam<3,>=2.77'" in (folder / "setup.py").read_text()


@pytest.mark.parametrize("end", ["", "from topkin.ending import signals; signals.leave('', 0)"])
def test_nothing_of_it_is_left_behind_however_the_process_ends(end: str, tmp_path: Path) -> None:
    script = (
        f"import os; from topkin.pipelines.engine import package as p; print(os.path.isfile(p.build('wheel')))\n{end}"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True)
    assert done.stdout == "True\n"
    assert not list(tmp_path.glob("topkin-package-*"))
