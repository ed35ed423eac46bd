"""URIs of object stores: which bucket they mean, and with which credentials and options it is opened.

::

    s3://bucket/key                                     credentials from the environment, ~/.aws or the machine's role
    s3://KEY:SECRET@bucket/key?region=eu-west-1         in the URI, percent-encoded where they hold a sign
    s3://KEY:SECRET;region=eu-west-1@bucket/key         the same with the options before the bucket

What follows the bucket is taken literally: object keys are not percent-decoded. The third form is what topkin makes of
the second, since paths are joined at their end.
"""

import configparser
import os
import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, unquote

from topkin.errors import ConfigError, nearest_name
from topkin.telemetry.secrets import HIDDEN, masked

EXTRAS = {"s3": "aws", "s3a": "aws", "gs": "gcp", "abfs": "azure", "abfss": "azure"}
"""The extra of topkin that brings the client, by scheme."""
OPTIONS = ("region", "endpoint_override", "scheme", "session_token", "anonymous")
_URI = re.compile(r"(?P<scheme>[a-z0-9]+)://(?:(?P<user>[^/@]*)@)?(?P<bucket>[^/]*)/?(?P<key>.*)", re.DOTALL)
_QUERY = re.compile(rf"\?(?=(?:{'|'.join(OPTIONS)})=)(?P<query>[^?]*)$|\?(?P<other>[a-z_]+=[^/?*]*)$")


class Bucket(NamedTuple):
    """A bucket as it is opened; of Azure the name is ``container@account…``. ``options``: sorted pairs."""

    scheme: str
    name: str
    options: tuple[tuple[str, str], ...] = ()

    @property
    def uri(self) -> str:
        """The beginning of every URI in it, without the slash."""
        named = dict(self.options)
        user = quote(named.pop("access_key", ""), safe="")
        if secret := named.pop("secret_key", ""):
            user += f":{quote(secret, safe='')}"
        user += "".join(f";{name}={quote(value, safe='')}" for name, value in named.items())
        return f"{self.scheme}://{user}{'@' if user else ''}{self.name}"


def is_object(path: str) -> bool:
    """Whether a path is a URI of an object store."""
    return path.partition("://")[0] in EXTRAS and "://" in path


def parse(uri: str) -> tuple[Bucket, str]:
    """The bucket of a URI and the key in it. Raises ConfigError for no bucket, or an option that there is not."""
    match = _URI.fullmatch(uri)
    if match is None or not match["bucket"]:
        raise ConfigError(f"a URI of an object store must name a bucket, as s3://bucket/folder, got {masked(uri)}")
    scheme, user, bucket, key = match["scheme"], match["user"] or "", match["bucket"], match["key"]
    options: dict[str, str] = {}
    if EXTRAS[scheme] == "azure":
        bucket = f"{user}@{bucket}" if user else bucket
    elif ":" in bucket:  # of a secret that is cut at a slash: not to be told as a name
        raise ConfigError(
            "a bucket's name has no colon, a sign in a URI's credentials is percent-encoded, / as %2F, and a server is "
            f"named by endpoint_override, got {scheme}://{HIDDEN}"
        )
    elif user:
        credentials, *named = user.split(";")
        access, _, secret = credentials.partition(":")
        options = {name: unquote(value) for name, _, value in (pair.partition("=") for pair in named)}
        options |= {name: unquote(v) for name, v in (("access_key", access), ("secret_key", secret)) if v}
    if query := _QUERY.search(key):
        options |= dict(parse_qsl(query["query"] or query["other"]))
        key = key[: query.start()]
    known = (*OPTIONS, "access_key", "secret_key")
    for name in options:
        if name not in known:
            near = nearest_name(name, OPTIONS)
            raise ConfigError(
                f"an option of a URI must be one of {', '.join(OPTIONS)}, got {name}"
                + (f", did you mean {near}?" if near else "")
            )
    return Bucket(scheme, bucket, tuple(sorted(options.items()))), key.strip("/")


def canonical(path: str) -> str:
    """A URI with its options before the bucket, so that names can be joined to it; other paths as they are."""
    if not is_object(path) or "?" not in path:
        return path
    bucket, key = parse(path)
    return f"{bucket.uri}/{key}"


def s3_configuration(options: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """What a client of S3 is given beside its environment variables: from a URI's options, then from ``~/.aws``.

    Raises ConfigError where there are no credentials, and the machine has no role that gives some.
    """
    names = {
        "access_key": "access_key_id",
        "secret_key": "secret_access_key",
        "session_token": "session_token",
        "region": "region",
    }
    configuration = {names[name]: value for name, value in options.items() if name in names}
    endpoint = options.get("endpoint_override") or environment.get("AWS_ENDPOINT_URL_S3")
    if endpoint:
        configuration["endpoint"] = endpoint if "://" in endpoint else f"{options.get('scheme', 'https')}://{endpoint}"
    if options.get("anonymous", "").lower() == "true":
        return {**configuration, "skip_signature": "true"}
    profile = _profile(environment)
    if (
        "region" not in configuration
        and not {"AWS_REGION", "AWS_DEFAULT_REGION"} & environment.keys()
        and "region" in profile
    ):
        configuration["region"] = profile["region"]
    if "access_key_id" in configuration or any(environment.get(name) for name in _FROM_ENVIRONMENT):
        return configuration
    keys = {
        ours: profile[theirs]
        for ours, theirs in (
            ("access_key_id", "aws_access_key_id"),
            ("secret_access_key", "aws_secret_access_key"),
            ("session_token", "aws_session_token"),
        )
        if theirs in profile
    }
    if not keys and environment.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        raise ConfigError(f"S3 needs credentials and there are none: {CREDENTIALS}")
    return configuration | keys


CREDENTIALS = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE to one in ~/.aws/credentials, or write "
    "?anonymous=true after the URI of a public bucket"
)
_FROM_ENVIRONMENT = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)


def _profile(environment: Mapping[str, str]) -> dict[str, str]:
    """The profile that ``AWS_PROFILE`` names, of the files that the AWS command line writes."""
    name, read = environment.get("AWS_PROFILE") or "default", configparser.RawConfigParser()
    home = environment.get("HOME", os.path.expanduser("~"))
    values: dict[str, str] = {}
    for variable, file, section in (
        ("AWS_CONFIG_FILE", "config", name if name == "default" else f"profile {name}"),
        ("AWS_SHARED_CREDENTIALS_FILE", "credentials", name),
    ):
        path = environment.get(variable) or os.path.join(home, ".aws", file)
        try:
            read.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError) as e:
            raise ConfigError(f"{path} cannot be read: {str(e).splitlines()[0]}") from e
        if read.has_section(section):
            values |= dict(read.items(section))
    return values
