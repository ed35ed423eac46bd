"""No credential of a URI is left in a text, and nothing else of it is lost."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topkin.telemetry.secrets import masked, masked_values

SECRET = st.text(string.ascii_letters + string.digits + "+%!$*._~-", min_size=8, max_size=40).map(lambda t: f"Zq{t}9")
NAMES = st.sampled_from(
    ["access_key", "AWS_SECRET_ACCESS_KEY", "X-Amz-Signature", "X-Amz-Credential", "token", "sig"]
) | (st.sampled_from(["secret_key", "password", "api_key", "AccountKey", "sas_token", "session_token", "Secret"]))
SCHEMES = st.sampled_from(["s3", "gs", "hdfs", "https", "abfss", "s3a"])
AROUND = st.sampled_from(["", "cannot open ", "[Errno 2] Failed: '", '{"path": "', "a=1, b=2: ", "gs://other/x and "])


@given(SCHEMES, st.none() | SECRET, st.none() | SECRET, st.lists(st.tuples(NAMES, SECRET), max_size=3), AROUND)
def test_no_secret_is_left_and_the_place_is(
    scheme: str, user: str | None, password: str | None, query: list[tuple[str, str]], around: str
) -> None:
    login = (user or "") + (f":{password}" if password else "")
    end = "&".join([*(f"{name}={value}" for name, value in query), "region=eu-1"])
    text = f"{around}{scheme}://{login}{'@' if login else ''}bucket/folder/part.parquet?{end}"
    shown = masked(text)
    for secret in (user, password, *(value for _, value in query)):
        assert secret is None or secret not in shown
    assert shown.startswith(f"{around}{scheme}://")
    assert "bucket/folder/part.parquet?" in shown
    assert shown.endswith("region=eu-1")
    assert masked(shown) == shown


@pytest.mark.parametrize(
    "text",
    ["", "plain", "user@example.org", "s3://bucket/a@b/c.parquet", "keys = 3: password=none", "file:///tmp/x.parquet"],
)
def test_what_holds_no_credential_stays(text: str) -> None:
    assert masked(text) == text


def test_texts_inside_values_are_masked_and_other_values_stay() -> None:
    value = {"run": {"output": "s3://a:bcdefgh@b/c", "parts": 3, "list": ["gs://x/y?token=abcdefgh", None, 1.5, True]}}
    assert masked_values(value) == {
        "run": {"output": "s3://***@b/c", "parts": 3, "list": ["gs://x/y?token=***", None, 1.5, True]}
    }


def test_nothing_that_is_printed_holds_a_credential(capsys: pytest.CaptureFixture[str]) -> None:
    from topkin.pipelines.cli.app import main

    assert main(["check", "--config", "s3://AKIA:wJal/rXU+tn@bucket/topkin.toml?secret_key=abcdefgh"]) != 0
    printed = capsys.readouterr()
    assert "got s3://***" in printed.err
    for secret in ("AKIA", "wJal", "rXU", "abcdefgh"):
        assert secret not in printed.out + printed.err
