"""One line on a run, fit for a chat channel, and the webhook that takes it there.

Whatever becomes of the webhook, the run is what it is: a failure is a warning, which names the host alone, for the
address is a secret.
"""

import json
import logging
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from topkin.telemetry.secrets import masked

if TYPE_CHECKING:
    from topkin.artifacts.runs import Run

LIMIT_SECONDS = 10.0
"""How long a webhook may take, all in all."""
LONGEST = 400
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Message:
    """What the webhook is sent, as JSON: ``text`` is the line."""

    text: str
    run_id: str | None
    as_of: str
    published: bool
    exit_code: int


def of_run(
    run: "Run", summaries: Mapping[str, Mapping[str, Any]], seconds: float, *, published: bool, why: str = ""
) -> Message:
    """On a run that ended well. summaries: what each stage counted. why: it was not published."""
    from topkin.planning.estimate import duration

    lists, judged = summaries.get("recommend", {}), summaries.get("evaluate", {})
    rejected = sum(
        sum(source.get("rejected", {}).values()) for source in summaries.get("prepare", {}).get("sources", {}).values()
    )
    figures = [f"{lists['users_with_list']:,} users with a list"] if "users_with_list" in lists else []
    figures += [f"{summaries['prepare']['items']:,} items"] if "items" in summaries.get("prepare", {}) else []
    figures += [f"{rejected:,} rows rejected"] if rejected else []
    figures += [f"{n.replace('_', ' ')} {v:.4f}" for n, v in judged.items() if isinstance(v, float)][:1]
    gates = {n.removeprefix("gates "): v for n, v in summaries.get("publish", {}).items() if n.startswith("gates ")}
    figures += [f"gates: {', '.join(f'{v} {n}' for n, v in gates.items())}"] if gates else []
    state = "published" if published else f"made, not published{f' ({why})' if why else ''}"
    text = f"topkin: {run.run_id} {state} in {duration(seconds)}; {'; '.join(figures)}".rstrip("; ")
    return Message(_line(text), run.run_id, run.as_of.isoformat(), published, 0)


def of_failure(as_of: str, error: BaseException, exit_code: int) -> Message:
    """On a run that failed."""
    text = f"topkin: the run as of {as_of.removesuffix('T00:00:00')} failed with code {exit_code}: {error}"
    return Message(_line(text), None, as_of, False, exit_code)


def _line(text: str) -> str:
    line = masked(" ".join(text.split()))
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"


def send(webhook: str | None, message: Message, limit: float = LIMIT_SECONDS) -> None:
    """Post a message; every failure is a warning.

    Args:
        webhook: An address, or the name of an environment variable that holds one; None for none.
        message: What is sent.
        limit: Seconds.
    """
    if webhook is None:
        return
    address = webhook if "://" in webhook else os.environ.get(webhook)
    if address is None:
        log.warning("run.webhook names the environment variable %s, which is not set: nothing was sent", webhook)
        return
    faults: list[str] = []
    thread = threading.Thread(target=_post, args=(address, message, limit, faults), daemon=True, name="topkin-webhook")
    thread.start()
    thread.join(limit)
    if thread.is_alive():
        faults.append(_late(limit))
    if faults:
        log.warning("the webhook at %s was not told: %s; the run stands as it is", _host(address), faults[0])


def _post(address: str, message: Message, limit: float, faults: list[str]) -> None:
    try:
        if urlsplit(address).scheme not in ("http", "https"):
            raise ValueError
        data = json.dumps(asdict(message)).encode()
        request = urllib.request.Request(address, data, {"Content-Type": "application/json", "User-Agent": "topkin"})
        with urllib.request.urlopen(request, timeout=limit):
            pass
    except urllib.error.HTTPError as e:
        faults.append(f"it answered {e.code}")
    except urllib.error.URLError as e:
        faults.append(_late(limit) if isinstance(e.reason, TimeoutError) else str(e.reason))
    except TimeoutError:
        faults.append(_late(limit))
    except ValueError:  # what Python says of an address has the address in it
        faults.append("it is no address that begins with http:// or https://")
    except Exception as e:  # noqa: BLE001 - nothing here may end a run
        faults.append(type(e).__name__)


def _late(limit: float) -> str:
    return f"no answer within {limit:g} seconds"


def _host(address: str) -> str:
    try:
        return urlsplit(address).hostname or "?"
    except ValueError:
        return "?"
