"""What an object store answers that is no success, as the errors of files: what came, and the cure."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from topkin.artifacts.objects.uri import CREDENTIALS, Bucket

_CODE = re.compile(r"<Code>([^<]*)</Code>(?:\s*<Message>([^<]*)</Message>)?")


class RefusedError(OSError):
    """A write whose condition did not hold any more: somebody else wrote meanwhile."""


@contextmanager
def explained(bucket: Bucket, key: str) -> Iterator[None]:
    """Raise what a client raises as FileNotFoundError, PermissionError, :class:`RefusedError` or another OSError."""
    from obstore import exceptions

    try:
        yield
    except FileNotFoundError as e:
        if "NoSuchBucket" in str(e):
            raise _no_bucket(bucket) from None
        raise FileNotFoundError(f"there is no object {bucket.scheme}://{bucket.name}/{key}") from None
    except (exceptions.AlreadyExistsError, exceptions.PreconditionError) as e:
        if "NoSuchBucket" in str(e):
            raise _no_bucket(bucket) from None
        raise RefusedError(f"{bucket.scheme}://{bucket.name}/{key} was written by somebody else") from None
    except (exceptions.BaseError, OSError, ValueError) as e:
        raise _fault(bucket, key, str(e)) from None


def _no_bucket(bucket: Bucket) -> OSError:
    return OSError(
        f"there is no bucket {bucket.name} ({bucket.scheme}://): mend its name or the endpoint, or make it, which "
        "topkin does not"
    )


def _fault(bucket: Bucket, key: str, text: str) -> OSError:
    code = _CODE.search(text)
    what = f"{bucket.scheme}://{bucket.name}/{key}"
    if "NoSuchBucket" in text:
        return _no_bucket(bucket)
    if any(word in text for word in ("169.254.169.254", "InstanceCredential", "metadata.google.internal")):
        cure = CREDENTIALS if bucket.scheme.startswith("s3") else "set the variables that the client of the store reads"
        return PermissionError(f"{what} needs credentials and there are none: {cure}")
    if any(word in text for word in (" 403 ", " 401 ", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch")):
        why = f"{code[1]}: {code[2] or ''}".rstrip(": ") if code else "access is denied"
        return PermissionError(f"{what} may not be used with these credentials ({why})")
    if code:
        return OSError(f"{what}: {code[1]}: {code[2] or ''}".rstrip(": "))
    first = text.partition("\n\nDebug source")[0]
    cause = re.findall(r"(?:dns error|Connection refused|timed out|tcp connect error)[^\n]*", text)
    return OSError(f"{what}: {cause[0] if cause else ' '.join(first.split())[:300]}")
