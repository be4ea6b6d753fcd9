"""`python -m bench [core|http|overload]`: the whole table, or one part of it."""

import sys

from bench import core, http, overload
from bench.table import head

PARTS = {"core": core.run, "http": http.run, "overload": overload.run}

head()
for part in sys.argv[1:] or list(PARTS):
    PARTS[part]()
