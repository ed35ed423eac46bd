"""The section ``[publish]``: the gates between a finished run and its publication."""
