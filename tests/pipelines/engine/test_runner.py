"""Where a job goes for the flags that were typed, and what is refused before it starts."""

from pathlib import Path

import pytest

from topkin.config.load import load_settings
from topkin.errors import ConfigError
from topkin.pipelines.engine import runner
from topkin.pipelines.engine.runner import Target, beam_options, package_of, refuse_local_paths, target_of

PORTABLE = "--runner=PortableRunner"
PROCESS = ["--environment_type=PROCESS", '--environment_config={"command": "/boot"}']
FAR = "--job_endpoint=flink.example:8099"


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        ([], "FnApiRunner"),
        (["--direct_num_workers=2"], "FnApiRunner"),
        (["--runner=DirectRunner"], "FnApiRunner"),
        (["--runner", "DirectRunner"], "FnApiRunner"),
        (["--runner=directrunner"], "FnApiRunner"),
        (["--runner=direct"], "FnApiRunner"),
        (["--runner=prism"], "PrismRunner"),
        (["--runner", "PortableRunner", "--job_endpoint=embed"], "PortableRunner"),
        (["--runner=apache_beam.runners.direct.direct_runner.DirectRunner"], "FnApiRunner"),
        (["--runner=apache_beam.runners.direct.direct_runner.BundleBasedDirectRunner"], "BundleBasedDirectRunner"),
        (["--runner=apache_beam.runners.runner.PipelineRunner"], "apache_beam.runners.runner.PipelineRunner"),
    ],
)
def test_no_way_to_ask_for_the_direct_runner_starts_a_download(flags: list[str], name: str) -> None:
    options = beam_options(flags).get_all_options()
    assert options["runner"] == name
    assert options["direct_num_workers"] == (2 if "--direct_num_workers=2" in flags else 1)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--direct_num_worker=2"],
            "there is no --direct_num_worker, did you mean --direct_num_workers?; got --direct",
        ),
        (["--direct_num_workers", "2", "more"], "there is no more; got --direct_num_workers 2 more"),
        (["--direct_running_mode=fast"], "argument --direct_running_mode: invalid choice: 'fast'"),
        (["--runner=Prizm"], "there is no runner Prizm, did you mean PrismRunner?; got --runner=Prizm"),
        (["--runner=Airflow"], "there is no runner Airflow: BundleBasedDirectRunner, DataflowRunner, Dir"),
        (["--runner=nowhere.Runner"], "the runner nowhere.Runner cannot be loaded: No module named 'nowhere'"),
        (["--runner=PrismRunner", "--theirs=1"], "there is no --theirs; got"),
        ([PORTABLE, FAR, "--enviroment_type=DOCKER"], "there is no --enviroment_type, did you mean --environment_ty"),
        (["--runner=PrismRunner", "--environment_type=PROCESS"], "Option process_command is required for environment"),
        (["--packge=wheel"], "there is no --packge, did you mean --package?"),
        (["--package=whl"], "--package must be one of wheel, sdist, none, it is whl, did you mean wheel?; got"),
        (["--package"], "--package must be one of wheel, sdist, none, it is empty"),
        (["--setup_file=setup.py"], "--setup_file must be the absolute path of a file that is there, setup.py is rel"),
        (["--setup_file", "~/s.py"], "--setup_file must be the absolute path of a file that is there, ~/s.py is relat"),
        (["--requirements_file=/nowhere/r.txt"], "--requirements_file must be the absolute path of a file that is"),
        (["--runner=PrismRunner", "--prism_location=bin/prism"], "--prism_location must be the absolute path of a"),
    ],
)
def test_what_beam_would_find_late_or_leave_out_in_silence_is_refused(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError) as raised:
        beam_options(flags)
    assert str(raised.value).startswith(f"flags for Beam, after --: {message}")
    assert "\n" not in str(raised.value)
    assert capsys.readouterr().err == ""


def test_a_runner_whose_packages_are_missing_is_refused_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(runner._EXTRAS, "DataflowRunner", ("topkin.nowhere.at_all", "topkin[gcp]"))
    with pytest.raises(ConfigError, match=r"DataflowRunner needs packages .* pip install 'topkin\[gcp\]'"):
        beam_options(["--runner=DataflowRunner"])


def test_a_job_server_may_know_flags_of_its_own() -> None:
    flags = [PORTABLE, "--job_endpoint=localhost:8099", "--their_own=1"]
    assert beam_options(flags).get_all_options()["runner"] == "PortableRunner"


def test_a_file_may_lie_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "r.txt").touch()
    options = beam_options(["--requirements_file=~/r.txt"]).get_all_options()
    assert options["requirements_file"] == str(tmp_path / "r.txt")


@pytest.mark.parametrize(
    ("flags", "remote", "own"),
    [
        ([], False, True),
        (["--runner=PrismRunner"], False, True),
        (["--runner=PrismRunner", *PROCESS], False, True),
        (["--runner=PrismRunner", "--environment_type=DOCKER"], True, False),
        (["--runner=PrismRunner", "--job_endpoint=prism.example:8073"], False, False),
        ([PORTABLE, "--job_endpoint=embed", "--environment_type=LOOPBACK"], False, True),
        ([PORTABLE, "--job_endpoint=localhost:8099"], True, False),
        ([PORTABLE, "--job_endpoint=localhost:8099", *PROCESS], False, False),
        ([PORTABLE, FAR, *PROCESS], True, False),
        ([PORTABLE, FAR, "--environment_type=LOOPBACK"], False, False),
        ([PORTABLE, FAR, "--environment_type=EXTERNAL", "--environment_config=localhost:50000"], False, False),
        ([PORTABLE, FAR, "--environment_type=EXTERNAL", "--environment_config=pool.example:50000"], True, False),
        (["--runner=FlinkRunner"], False, False),
        (["--runner=FlinkRunner", "--flink_master=flink.example:8081"], True, False),
        (["--runner=SparkRunner"], False, False),
        (["--runner=SparkRunner", "--spark_master_url=spark://far.example:7077"], True, False),
        (["--runner=SparkRunner", "--spark_master_url=local[2]"], False, False),
        (["--runner=SparkRunner", "--spark_master_url=local.example:7077", *PROCESS], True, False),
        (["--runner=FlinkRunner", "--flink_master=[auto]", *PROCESS], False, False),
        ([PORTABLE, "--job_endpoint=localflink.corp:8099", *PROCESS], True, False),
        ([PORTABLE, "--job_endpoint=[::1]:8099", *PROCESS], False, False),
        ([PORTABLE, FAR, "--environment_type=EXTERNAL", "--environment_config=[::1]:50000"], False, False),
        (["--runner=PrismRunner", "--environment_type=beam:env:docker:v1"], True, False),
        (["--runner=PrismRunner", "--environment_type=beam:env:embedded_python_loopback:v1"], False, True),
        (["--runner=BundleBasedDirectRunner"], False, True),
        (["--runner=SwitchingDirectRunner"], False, True),
        (["--runner=TestDirectRunner"], False, True),
        (["--runner=apache_beam.runners.portability.prism_runner.PrismRunner"], False, True),
    ],
)
def test_workers_elsewhere_are_known_by_runner_server_and_environment(
    flags: list[str], remote: bool, own: bool
) -> None:
    options = beam_options(flags)
    assert target_of(options) == Target(options.get_all_options()["runner"], remote, own)


def test_paths_of_this_machine_are_refused_where_workers_have_another_disk(tmp_path: Path) -> None:
    config = tmp_path / "topkin.toml"
    config.write_text('[purchases]\npath = "lake"\n[items]\npath = "s3://shop/items"\n[recommend]\nallow = "a.parquet"')
    settings, docker = load_settings(config), ["--runner=PrismRunner", "--environment_type=DOCKER"]
    refuse_local_paths(settings, [])
    refuse_local_paths(settings, ["--runner=PrismRunner"])
    with pytest.raises(ConfigError) as raised:
        refuse_local_paths(settings, docker)
    text = str(raised.value)
    assert "run.output, purchases.path must be where every worker finds it, run.output is /" in text
    assert f"or file://{settings.run.output} where all workers" in text
    mounted = load_settings(config, [f"purchases.path=file://{tmp_path}/lake", f"run.output=file://{tmp_path}/out"])
    refuse_local_paths(mounted, docker)


def test_paths_of_events_are_refused_too(tmp_path: Path) -> None:
    config = tmp_path / "topkin.toml"
    config.write_text(
        '[run]\noutput = "s3://shop/out"\n[purchases]\npath = "s3://shop/lake"\n'
        '[events.view]\npath = "views"\nrole = "input"'
    )
    with pytest.raises(ConfigError, match=r"events\.view\.path must be where every worker finds it, .*/views"):
        refuse_local_paths(load_settings(config), ["--runner=PrismRunner", "--environment_type=DOCKER"])


def test_the_last_package_counts() -> None:
    assert package_of([]) is None
    assert package_of(["--package=none", "--package=sdist"]) == "sdist"
