"""What lives as long as the process is kept out of the garbage collector's walks.

A full collection walks over every object. Libraries and configuration are some hundred thousand of them that never
become garbage, and a walk over them holds up a gateway or a worker for a tenth of a second, again and again.
"""

from __future__ import annotations

import gc


def settle() -> None:
    """Collect once, then leave alone all that is there; to be called again when much of it has been replaced.

    What is freed by its last reference is freed as before. Only cycles among what is left alone stay, until the next
    call.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
