"""What the daemon answers on its control socket: one function for each request."""

from __future__ import annotations

import os
from typing import Any

from devsync.daemon.barrier import LOOK_UP, Barrier, Told
from devsync.daemon.board import Facts
from devsync.daemon.control import Handler, Session
from devsync.daemon.engine import Permission
from devsync.daemon.idle_requests import IdleRequests
from devsync.daemon.job_requests import JobRequests
from devsync.daemon.jupyter import JupyterRequests
from devsync.daemon.parts import Parts
from devsync.daemon.runs import Runs
from devsync.daemon.status import as_json, state
from devsync.daemon.tasks import TASKS
from devsync.ports import DevsyncError

PATIENCE = 0.25
"""Seconds between two events of `follow` at least while facts change quickly."""

PERMISSIONS = ("accept_deletions", "rejoin", "take_over", "accept_arrivals")
"""What `start` may allow, in the order of Permission."""


def handlers(parts: Parts) -> dict[str, Handler]:
    """Every request by name."""
    requests = _Requests(parts)
    runs = Runs(parts, requests.barrier)
    jobs = JobRequests(parts, runs.carried)
    return {
        "status": requests.status,
        "follow": requests.follow,
        "flush": requests.flush,
        "start": requests.start,
        "deallocate": requests.deallocate,
        "stop": requests.stop,
        "run": runs.run,
        "detach": runs.detach,
        **jobs.handlers(),
        **JupyterRequests(parts, jobs).handlers(),
        **IdleRequests(parts, JobRequests(parts, runs.carried).find).handlers(),
        **{name: requests.task(name) for name in TASKS},
    }


class _Requests:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.barrier = Barrier(parts)

    # ------------------------------------------------------------ looking

    def status(self, _session: Session, _args: dict[str, Any]) -> object:
        return self._status(self._parts.board.read())

    def _status(self, facts: Facts) -> dict[str, object]:
        parts = self._parts
        return as_json(facts, parts.identity, parts.tunnels(), parts.watching())

    def follow(self, session: Session, args: dict[str, Any]) -> object:
        """Tell each change, for ever; or `until` one more synchronisation than `beyond` is complete."""
        seen = -1
        while True:
            seen, facts = self._parts.board.wait(seen, LOOK_UP)
            session.event(self._status(facts))
            if args.get("until") == "synchronised":
                self._raise_trouble(facts)
                if facts.sync.synchronised > int(args.get("beyond", 0)):
                    return self._status(facts)
            if self._parts.supervisor.stopping.wait(PATIENCE if args.get("until") is None else 0.05):
                raise self.barrier.ending()

    def _raise_trouble(self, facts: Facts) -> None:
        for trouble in facts.troubles.values():
            if trouble.needs_user:
                raise Told(trouble)

    # ------------------------------------------------------------ acting

    def flush(self, session: Session, args: dict[str, Any]) -> object:
        answer = self.barrier.flush(session, args.get("timeout"))
        return {"conflicts": list(answer.conflicts), "unsettled": answer.unsettled}

    def task(self, name: str) -> Handler:
        """One of TASKS, done by the sync loop."""

        def handle(session: Session, args: dict[str, Any]) -> object:
            inbox = self._parts.inbox
            return self.barrier.behind(
                session, lambda: inbox.ask(lambda engine: TASKS[name](engine, args)), None
            )

        return handle

    def start(self, _session: Session, args: dict[str, Any]) -> object:
        """The user wants the machine, and may allow what held it up.

        To `follow` with the `beyond` of the answer is to wait until everything is as it should be.
        """
        facts = self._parts.board.read()
        if args.get("accept_host_key"):
            self._parts.accept_host_key(str(args["accept_host_key"]))
        allowed = (bool(args.get(name)) for name in PERMISSIONS)
        permission = Permission(*allowed)
        beyond = facts.sync.synchronised
        if state(facts) == "watching" and permission == Permission():
            beyond -= 1  # there is nothing to wait for
        else:
            self._parts.inbox.request(permission)
        self._parts.board.acted()
        self._parts.link.wake()
        self._parts.supervisor.retry()
        return {"pid": os.getpid(), "beyond": beyond}

    def deallocate(self, session: Session, args: dict[str, Any]) -> object:
        """Flush if that is possible, then let the machine go; returns when it is deallocated."""
        if self._parts.board.read().link.state == "connected":
            session.event({"progress": "flushing"})
            try:
                self.barrier.flush(session, args.get("timeout"))
            except DevsyncError as error:
                session.event({"warning": f"not everything was brought over: {error.message}"})
        session.event({"progress": "deallocating the machine"})
        try:
            self._parts.link.deallocate(self._parts.supervisor.stopping)
        except DevsyncError:
            self._parts.link.resume()  # what is still billed must be watched
            raise
        return {"machine": self._parts.board.read().link.power}

    def stop(self, session: Session, args: dict[str, Any]) -> object:
        """Flush, if the machine is within reach, and end the daemon."""
        try:
            if args.get("deallocate"):
                self.deallocate(session, args)
            elif self._parts.board.read().link.state == "connected" and not args.get("now"):
                session.event({"progress": "flushing"})
                self.barrier.flush(session, args.get("timeout"))
        except DevsyncError as error:
            if args.get("deallocate"):
                raise
            session.event({"warning": f"not everything was brought over: {error.message}"})
        link = self._parts.board.read().link
        session.event({"stopping": os.getpid(), "machine": link.power, "billed": link.billed})
        self._parts.supervisor.end()
        return None
