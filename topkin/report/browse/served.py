"""The page as ``topkin serve`` gives it: its script may ask the server that it came from, and nobody else."""

HTML, POLICY = '<html lang="en">', "default-src 'none'; "


def served(page: str, api: str) -> str | None:
    """The page with the address of what answers its script; None where it is not a page of this topkin.

    api: A path on the server, such as ``/api/``.
    """
    head, policy, rest = page.partition(POLICY)
    if HTML not in head or not policy or len(head) > 400:
        return None
    return f"{head.replace(HTML, HTML[:-1] + f' data-api={api!r}>', 1)}{POLICY}connect-src 'self'; {rest}"
