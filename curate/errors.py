"""Errors of a dataset that callers tell apart; the message says what to do, as on the command line."""


class NotADataset(ValueError):
    """A folder that holds no dataset, or none at all."""


class Missing(ValueError):
    """What is asked for is made by a step that has not run: the message names the command."""


class OtherVersion(ValueError):
    """Another version of reelpack wrote a table, and this one cannot read it."""
