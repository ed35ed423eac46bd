"""Which runner a job gets for the flags that were typed."""

import pytest

from topkin.errors import ConfigError
from topkin.pipelines.engine.job import beam_options


@pytest.mark.parametrize(
    ("flags", "runner"),
    [
        ([], "FnApiRunner"),
        (["--direct_num_workers=2"], "FnApiRunner"),
        (["--runner=DirectRunner"], "FnApiRunner"),
        (["--runner", "DirectRunner"], "FnApiRunner"),
        (["--runner=directrunner"], "FnApiRunner"),
        (["--runner", "PortableRunner", "--job_endpoint=embed"], "PortableRunner"),
    ],
)
def test_no_way_to_ask_for_the_direct_runner_starts_a_download(flags: list[str], runner: str) -> None:
    options = beam_options(flags)
    assert options.get_all_options()["runner"] == runner
    assert options.get_all_options()["direct_num_workers"] == (2 if "--direct_num_workers=2" in flags else 1)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            ["--direct_num_worker=2"],
            "there is no --direct_num_worker, did you mean --direct_num_workers?; got --direct",
        ),
        (["--direct_num_workers", "2", "more"], "there is no more; got --direct_num_workers 2 more"),
        (["--direct_running_mode=fast"], "argument --direct_running_mode: invalid choice: 'fast'"),
    ],
)
def test_a_flag_that_beam_would_leave_out_in_silence_is_refused(
    flags: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError) as raised:
        beam_options(flags)
    assert str(raised.value).startswith(f"flags for Beam, after --: {said}")
    assert capsys.readouterr().err == ""


def test_a_job_server_may_know_flags_of_its_own() -> None:
    flags = ["--runner=PortableRunner", "--job_endpoint=localhost:8099", "--their_own=1"]
    assert beam_options(flags).get_all_options()["runner"] == "PortableRunner"
