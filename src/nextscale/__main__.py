"""``python -m nextscale``."""

from nextscale.cli.main import command

command()
