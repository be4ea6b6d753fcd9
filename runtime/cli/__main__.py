"""`python -m runtime.cli`, the same as `cyclewright`."""

from runtime.cli.main import main

main()
