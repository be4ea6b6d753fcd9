"""`python -m bench [core|http|outbound|scale|soak]`: the table of what takes seconds, or of the parts named."""

import sys

from bench import core, http, outbound, scale
from bench.table import head

PARTS = {"core": core.run, "http": http.run, "outbound": outbound.run, "scale": scale.run, "soak": scale.soak}

USUAL = ("core", "http", "outbound")  # The others take minutes.

head()
for part in sys.argv[1:] or USUAL:
    PARTS[part]()
