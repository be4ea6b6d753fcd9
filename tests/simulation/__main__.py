import collections
import sys
import time
import traceback

import structlog

from tests.simulation.life import simulate
from tests.simulation.partner import Breach


def drop(*_):
    raise structlog.DropEvent


structlog.configure(processors=[drop])
t = time.time()
bad = 0
some = collections.Counter()
faults = collections.Counter()
crashes = 0


def leaves(e):
    if isinstance(e, BaseExceptionGroup):
        for x in e.exceptions:
            yield from leaves(x)
    else:
        yield e


for s in range(int(sys.argv[1]), int(sys.argv[2])):
    try:
        told = simulate(s)
    except BaseException as e:
        bad += 1
        for l in leaves(e):
            if not isinstance(l, Breach):
                traceback.print_exception(l)
            print(s, type(l).__name__, str(l)[:600])
        if isinstance(e, KeyboardInterrupt):
            raise
    else:
        some += told.sometimes
        faults += told.faults
        crashes += told.crashes
print(bad, "bad", time.time() - t, crashes)
for k, v in sorted(some.items()):
    print(v, k)
print(faults)
