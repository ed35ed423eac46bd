"""Which runner a job gets for the flags that were typed."""

import pytest

from topkin.pipelines.job import beam_options


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
