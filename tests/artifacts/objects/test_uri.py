"""URIs of object stores: what they name, and where credentials come from."""

from pathlib import Path

import pytest

from topkin.artifacts import storage
from topkin.artifacts.objects import uri
from topkin.artifacts.objects.uri import Bucket
from topkin.errors import ConfigError
from topkin.telemetry.secrets import masked


@pytest.mark.parametrize(
    ("path", "bucket", "key"),
    [
        ("s3://shop/a/b.parquet", Bucket("s3", "shop"), "a/b.parquet"),
        ("s3://shop", Bucket("s3", "shop"), ""),
        ("s3://shop/a/", Bucket("s3", "shop"), "a"),
        ("gs://shop/d=1%20/ü x", Bucket("gs", "shop"), "d=1%20/ü x"),
        ("s3://shop/part-?.parquet", Bucket("s3", "shop"), "part-?.parquet"),
        ("abfs://lake@shop.dfs.core.windows.net/a", Bucket("abfs", "lake@shop.dfs.core.windows.net"), "a"),
        ("s3://K:a%2Fb@shop/a", Bucket("s3", "shop", (("access_key", "K"), ("secret_key", "a/b"))), "a"),
        ("s3://shop/a?region=eu-west-1", Bucket("s3", "shop", (("region", "eu-west-1"),)), "a"),
    ],
)
def test_a_uri_names_a_bucket_and_a_key(path, bucket, key):
    assert uri.parse(path) == (bucket, key)


def test_names_can_be_joined_to_a_uri_with_options():
    path = "s3://K:s%2Fe@shop/a?region=eu&endpoint_override=localhost:9000&scheme=http"
    joined = storage.join(path, "b.json")
    assert joined == storage.join(storage.canonical(path), "b.json")
    bucket, key = uri.parse(joined)
    assert key == "a/b.json"
    assert bucket == uri.parse(path)[0]
    assert dict(bucket.options) == {
        "access_key": "K",
        "secret_key": "s/e",
        "region": "eu",
        "endpoint_override": "localhost:9000",
        "scheme": "http",
    }
    assert "s%2Fe" not in masked(joined)
    assert masked(joined).endswith("@shop/a/b.json")
    assert storage.canonical("/local/x?region=eu") == "/local/x?region=eu"
    assert storage.canonical("s3://shop/part-?.parquet") == "s3://shop/part-?.parquet"


@pytest.mark.parametrize(
    ("path", "message"),
    [("s3://", "must name a bucket"), ("s3://shop/a?regoin=eu", "did you mean region"), ("s3:///a", "a bucket")],
)
def test_a_uri_that_cannot_be_opened_is_told_with_the_cure(path, message):
    with pytest.raises(ConfigError, match=message):
        uri.parse(path)


def test_a_secret_with_a_bare_slash_is_not_told_as_the_name_of_a_bucket():
    with pytest.raises(ConfigError, match=r"percent-encoded, / as %2F") as raised:
        uri.parse("s3://AKIA:wJalr/K7MDENG@shop/lake")
    assert not any(part in str(raised.value) for part in ("AKIA", "wJalr", "K7MDENG"))
    with pytest.raises(ConfigError, match=r"got s3://\*\*\*@/lake"):
        uri.parse("s3://AKIA:wJalr@/lake")


def aws(home: Path, **options: str) -> dict[str, str]:
    return uri.s3_configuration(options, {"HOME": str(home), "AWS_EC2_METADATA_DISABLED": "true"})


def test_credentials_come_from_the_uri_then_the_environment_then_the_files_of_aws(tmp_path):
    environment = {"HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"}
    with pytest.raises(ConfigError, match=r"AWS_ACCESS_KEY_ID.*anonymous=true"):
        uri.s3_configuration({}, environment)
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text(
        "[default]\naws_access_key_id = A\naws_secret_access_key = a%b\n[night]\naws_access_key_id = N\n"
        "aws_secret_access_key = n\naws_session_token = t\n"
    )
    (tmp_path / ".aws" / "config").write_text("[default]\nregion = eu-1\n[profile night]\nregion = eu-2\n")
    assert uri.s3_configuration({}, environment) == {
        "access_key_id": "A",
        "secret_access_key": "a%b",
        "region": "eu-1",
    }
    assert uri.s3_configuration({}, {**environment, "AWS_PROFILE": "night", "AWS_REGION": "x"}) == {
        "access_key_id": "N",
        "secret_access_key": "n",
        "session_token": "t",
    }
    own = {**environment, "AWS_ACCESS_KEY_ID": "E", "AWS_REGION": "x"}
    assert uri.s3_configuration({}, own) == {}  # the client reads them itself
    assert uri.s3_configuration({"access_key": "U", "secret_key": "u", "region": "y"}, own) == {
        "access_key_id": "U",
        "secret_access_key": "u",
        "region": "y",
    }
    assert uri.s3_configuration({"anonymous": "true", "endpoint_override": "h:1", "scheme": "http"}, environment) == {
        "skip_signature": "true",
        "endpoint": "http://h:1",
    }


def test_a_damaged_file_of_aws_is_told(tmp_path):
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text("no section")
    with pytest.raises(ConfigError, match="credentials cannot be read"):
        aws(tmp_path)
