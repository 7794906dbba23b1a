"""``python -m nextscale``."""

from nextscale.cli.main import main

main()
