"""Gates: whether a finished version may be published, by its own figures and beside the live version.

``judge`` measures both versions from their folders, and asks each gate of ``[publish]``: it has passed, is refused,
or could not be asked. Files are read column by column, of tables by user a sample that a hash draws.
"""
