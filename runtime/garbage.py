"""When garbage is collected: only cycles of objects are garbage to Python, and what serves requests leaves few."""

import gc

COLLECT_AT = (50_000, 20, 50)  # New containers between collections: 700 would be one every ten requests, for nothing.


def settle() -> None:
    """Leave out of collections what a start has loaded, since it stays, and collect seldom from now on."""
    gc.freeze()
    gc.set_threshold(*COLLECT_AT)
