"""gunicorn for a WSGI app in front of which a bearerguard server stands: `gunicorn app:app`.

A worker that stops answers the connections that wait to be accepted, and closes its listeners at
once. gunicorn's own keeps them open for two seconds, and the kernel then resets what has come.
"""

import select

from gunicorn.workers.gthread import ThreadWorker


class Worker(ThreadWorker):
    def set_accept_enabled(self, enabled):
        super().set_accept_enabled(enabled)
        if enabled or self.alive:
            return
        for listener in self.sockets:
            while select.select([listener], [], [], 0)[0]:
                self.accept(listener)
            listener.close()


worker_class = Worker
workers = 2
threads = 8
keepalive = 5
# Longer than a request takes; a container's grace period is longer still.
graceful_timeout = 20
