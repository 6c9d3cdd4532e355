"""Several processes that serve the same sockets, and the one that replaces those that die.

The workers are forked, so that the options are read, the store migrated and the first key made
once. uvicorn has such a process of its own, but it starts workers anew by an import string, keeps
the sockets open while they stop, and the kernel resets the connections that nobody accepts then.
Knows no endpoint.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from types import FrameType

from bearerguard.errors import ConfigurationError

_log = logging.getLogger("bearerguard.server")
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# A worker that died younger is replaced only after as long, so that a fault at the start does not
# start processes without end.
_YOUTH = 1.0


class Workers:
    """Runs `run(sockets, parent=)` in `count` processes until SIGTERM or SIGINT.

    `parent` is the id of this process: a worker ends when it is no longer its parent.
    """

    def __init__(
        self, count: int, run: Callable[..., None], sockets: Sequence[socket.socket]
    ) -> None:
        if not hasattr(os, "fork"):
            raise ConfigurationError("--workers: this operating system cannot fork: leave it at 1")
        self._count = count
        self._run = run
        self._sockets = list(sockets)
        self._context = multiprocessing.get_context("fork")
        self._processes: dict[BaseProcess, float] = {}
        self._received: list[int] = []

    def run(self) -> None:
        """Serve; return when all workers have ended."""
        wake, woken = socket.socketpair()
        for each in (wake, woken):
            each.settimeout(0)
        with wake, woken:
            before = {each: signal.signal(each, self._receive) for each in _SIGNALS}
            signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
            try:
                self._supervise(woken)
            finally:
                signal.set_wakeup_fd(-1)
                for number, handler in before.items():
                    signal.signal(number, handler)

    def _receive(self, number: int, _: FrameType | None) -> None:
        self._received.append(number)

    def _supervise(self, woken: socket.socket) -> None:
        for _ in range(self._count):
            self._start()
        while not self._received:
            self._wait(woken, None)
            for process, started in self._ended():
                _log.warning(
                    "worker %s ended with code %s and is replaced", process.pid, process.exitcode
                )
                self._pause(woken, started + _YOUTH)
                if not self._received:
                    self._start()
        # The workers' own copies remain: the last one accepts what still waits.
        for each in self._sockets:
            each.close()
        while self._processes:
            # The first signal asks the workers to stop, another one is passed on.
            for number in self._received or ():
                self._signal(number)
            self._received.clear()
            self._wait(woken, None)
            self._ended()

    def _start(self) -> None:
        # A signal right after the fork waits until the worker has handlers of its own.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            process = self._context.Process(target=self._serve, args=(os.getpid(),))
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        self._processes[process] = time.monotonic()

    def _serve(self, parent: int) -> None:
        signal.set_wakeup_fd(-1)
        for each in _SIGNALS:
            # Before uvicorn has its own handlers, and when it has stopped and raises them again:
            # by default the process would end before it has written its log.
            signal.signal(each, _leave)
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            self._run(self._sockets, parent=parent)
        finally:
            logging.shutdown()  # this process does not run what `atexit` has

    def _wait(self, woken: socket.socket, seconds: float | None) -> None:
        for each in wait([*(each.sentinel for each in self._processes), woken], seconds):
            if each is woken:
                woken.recv(4096)

    def _pause(self, woken: socket.socket, until: float) -> None:
        while not self._received and (left := until - time.monotonic()) > 0:
            if wait([woken], left):
                woken.recv(4096)

    def _ended(self) -> list[tuple[BaseProcess, float]]:
        found = [(each, since) for each, since in self._processes.items() if not each.is_alive()]
        for each, _ in found:
            each.join()
            del self._processes[each]
        return found

    def _signal(self, number: int) -> None:
        for each in self._processes:
            if each.pid is not None and each.is_alive():
                os.kill(each.pid, number)


def _leave(_: int, __: FrameType | None) -> None:
    raise SystemExit
