"""Ending with the parent process, however it ended: SIGKILL leaves it no time to tell us."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable


def end_with_parent(before: Callable[[], None] = lambda: None) -> None:
    """Interrupt this process when its standard input closes; call it in the main thread.

    The parent must hold the other end of it and never write.

    Parameters
    ----------
    before : callable, optional
        Called just before.
    """

    def wait() -> None:
        while os.read(sys.stdin.fileno(), 1):  # unbuffered, or leaving would wait for it
            pass
        before()
        # wakes the main thread from waiting
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    # a shell lets what it starts in the background ignore interrupts, and we inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=wait, daemon=True).start()
