"""What a runner's worker has and sees, beside what is here."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from topkin.pipelines import doctor
from topkin.pipelines.cli.app import main


@pytest.mark.parametrize(
    "flags", [[], ["--runner=PortableRunner", "--job_endpoint=embed", "--environment_type=LOOPBACK"]]
)
def test_a_worker_of_this_environment_is_well(
    tmp_path: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "topkin.toml"
    config.write_text('[run]\noutput = "new/out"\n[purchases]\npath = "lake"\n')
    assert main(["doctor", "--config", str(config), "--json", "--", *flags]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["ok"]
    assert printed["runner"] == ("PortableRunner" if flags else "FnApiRunner")
    by_what = {f["what"]: f for f in printed["findings"]}
    assert by_what["topkin"]["here"] == by_what["topkin"]["worker"] != ""
    assert by_what["output folder"]["worker"] == "read and written"
    assert list(tmp_path.iterdir()) == [config]  # the folders of the output, which were not there, neither


def test_another_environment_is_told_with_its_cure() -> None:
    here = {**doctor.facts(), "GPU": "H200", "Python": "3.11.7"}
    seen = {"output folder": "read and written"}
    assert not any(f.fault for f in doctor.compare(here, {**here, **seen, "GPU": "none", "Python": "3.11.9"}))
    findings = doctor.compare(here, {**here, "Python": "3.12.1", "topkin": "0.1.0", "output folder": "not seen: gone"})
    faults = {f.what: f.fault for f in findings if f.fault}
    assert set(faults) == {"Python", "topkin", "output folder"}
    assert "it is 3.11.7 here and 3.12.1 there: give the workers the image" in faults["Python"]
    assert faults["topkin"].endswith("send it with --package=wheel")
    assert faults["output folder"] == "run.output must be where workers see it, it is not seen: gone"
    missing = doctor.compare(here, {k: v for k, v in here.items() if k != "tensorflow"} | seen)
    assert [replace(f, fault="") for f in missing if f.fault] == [
        doctor.Finding("tensorflow", here["tensorflow"], "none")
    ]


def test_a_worker_with_a_disk_of_its_own_does_not_see_the_folder(tmp_path: Path) -> None:
    assert doctor.look(str(tmp_path / "other" / ".doctor-1"), "1")["output folder"].startswith("not seen: ")
    (tmp_path / "probe").write_text("2")
    assert doctor.look(str(tmp_path / "probe"), "1")["output folder"] == "another file is there"
