"""`python -m bench [core|http|outbound|overload|scale|soak]`: the table of what takes seconds, or of parts."""

import sys

from bench import core, http, outbound, overload, scale
from bench.table import head

PARTS = {
    "core": core.run,
    "http": http.run,
    "outbound": outbound.run,
    "overload": overload.run,
    "scale": scale.run,
    "soak": scale.soak,
}

USUAL = ("core", "http", "outbound")  # The others take minutes.

head()
for part in sys.argv[1:] or USUAL:
    PARTS[part]()
