"""The far end: answers one question after the other about one folder. Travels (Python 3.8).

It owns the process that runs it: frames come on standard input and go to standard output, and the
process ends when its input does, so nothing is left behind by a lost connection. More verbs come as
tables: `serve(stdin, stdout, {"probe": probe})`, each a function of the helper and the request.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from devsync.core.ignore import Rules
from devsync.core.snapshot import Leaf, RelPath, to_json
from devsync.replica import frames, trash, wire
from devsync.replica.digests import Digests
from devsync.replica.inotify import watch
from devsync.replica.tree import Tree
from devsync.replica.walk import Blocked, RootGone, told

TEMPORARY_DISKS = ("/mnt", "/media/temp")
"""Where Azure mounts the disk that is empty after a deallocation."""


class Helper:
    """What the verbs share: the folder that `hello` named, and the rules."""

    def __init__(self, stdin: BinaryIO, stdout: BinaryIO) -> None:
        self.stdin = stdin
        self.stdout = stdout
        self.rules = Rules()
        self.look = 0
        self.told: Mapping[RelPath, Leaf] = {}
        """What the last look at everything, number `look`, has found."""
        self._tree: Tree | None = None

    @property
    def tree(self) -> Tree:
        """The folder; ValueError before `hello`."""
        if self._tree is None:
            raise ValueError("no folder was named yet")
        return self._tree

    def open(self, root: str) -> None:
        """Name the folder."""
        self._tree = Tree(root, Digests())

    def send(self, message: Any) -> None:
        """One frame to the near side."""
        self.stdout.write(frames.encode(message))
        self.stdout.flush()


def hello(helper: Helper, request: Mapping[str, Any]) -> dict[str, Any]:
    """Name the root (`~` is this user's home), make it if `create`; say what is here."""
    root = os.path.realpath(os.path.expanduser(request["root"]))
    if request.get("create"):
        os.makedirs(root, exist_ok=True)
    helper.open(root)
    exists = os.path.isdir(root)
    if exists:
        try:
            with helper.tree.home():  # made now, so that contents can be staged
                pass
            helper.tree.recall_digests()
        except OSError:
            pass  # a read-only disk can still be looked at
    nearest = root
    while not os.path.isdir(nearest):
        nearest = os.path.dirname(nearest)
    disk = os.statvfs(nearest)
    return {
        "python": list(sys.version_info[:3]),
        "platform": sys.platform,
        "home": os.path.expanduser("~"),
        "root": root,
        "euid": os.geteuid(),
        "free": disk.f_bavail * disk.f_frsize,
        "exists": exists,
        "temporary_disk": _on_temporary_disk(root),
    }


def _on_temporary_disk(root: str) -> bool:
    for place in TEMPORARY_DISKS:
        if (root == place or root.startswith(place + "/")) and os.path.isdir(place):
            return True
    return False


def set_rules(helper: Helper, request: Mapping[str, Any]) -> None:
    """What is mirrored from now on."""
    helper.rules = Rules.from_json(request["rules"])


def scan(helper: Helper, request: Mapping[str, Any]) -> Any:
    """Look at `scope`, or at everything; of everything, only what differs from the look `known` is told."""
    scope = wire.scope_from_json(request["scope"])
    snapshot = helper.tree.scan(helper.rules, scope)
    if scope is not None:
        return wire.snapshot_to_json(snapshot)
    try:
        helper.tree.keep_digests()
    except OSError:
        pass  # a full or read-only disk: the next start reads the files again
    told = helper.told if request["known"] == helper.look else {}
    helper.look += 1
    helper.told = snapshot.leaves
    return {"look": helper.look, **wire.news_to_json(snapshot, told)}


def commit(helper: Helper, request: Mapping[str, Any]) -> Any:
    """Make changes; their contents are staged."""
    return wire.outcomes_to_json(helper.tree.commit(wire.changes_from_json(request["changes"])))


def marker(helper: Helper, _request: Mapping[str, Any]) -> Any:
    """The identity of this folder."""
    return helper.tree.marker()


def write_marker(helper: Helper, request: Mapping[str, Any]) -> None:
    """Give this folder an identity."""
    with helper.tree.home() as home:
        home.write_marker(dict(request["marker"]))


def staged(helper: Helper, _request: Mapping[str, Any]) -> Any:
    """What has arrived: digest -> bytes."""
    with helper.tree.home() as home:
        return home.staged()


def heal(helper: Helper, _request: Mapping[str, Any]) -> int:
    """Finish what a commit that died has left; remove what was staged and never used, and say how many.

    Only for whoever owns this folder: a commit that still runs would be disturbed.
    """
    with helper.tree.home() as home:
        trash.recover(home, helper.tree.digests)
        return home.clear_staging()


def versions(helper: Helper, _request: Mapping[str, Any]) -> Any:
    """What is in the trash."""
    with helper.tree.home() as home:
        return [version.to_json() for version in trash.versions(home, helper.tree.digests)]


def restage(helper: Helper, request: Mapping[str, Any]) -> Any:
    """Stage an old version; its leaf."""
    return to_json(helper.tree.restage(str(request["version"])))


def prune(helper: Helper, request: Mapping[str, Any]) -> int:
    """Throw away the oldest of the trash."""
    with helper.tree.home() as home:
        return trash.prune(home, helper.tree.root, float(request["days"]), int(request["size"]))


def watch_here(helper: Helper, request: Mapping[str, Any]) -> None:
    """Send hints until the next request comes, or the end."""
    helper.rules = Rules.from_json(request["rules"])
    watch(helper.tree.root, helper.rules, helper.stdin.fileno(), helper.send)


VERBS: Mapping[str, Callable[[Helper, Mapping[str, Any]], Any]] = {
    "hello": hello,
    "rules": set_rules,
    "scan": scan,
    "commit": commit,
    "marker": marker,
    "write-marker": write_marker,
    "staged": staged,
    "heal": heal,
    "versions": versions,
    "restage": restage,
    "prune": prune,
    "watch": watch_here,
}


def serve(
    stdin: BinaryIO, stdout: BinaryIO, more: Mapping[str, Callable[[Helper, Mapping[str, Any]], Any]]
) -> None:
    """Answer until the input ends. A request that fails is answered with why; the next one is heard."""
    helper = Helper(stdin, stdout)
    verbs = {**VERBS, **more}
    while True:
        try:
            request = frames.read(stdin.read)
        except EOFError:
            return
        try:
            answer = {"ok": verbs[request["do"]](helper, request)}
        except RootGone as error:
            answer = {"error": str(error), "kind": "gone"}
        except Blocked as error:
            answer = {"error": str(error), "kind": "blocked"}
        except OSError as error:
            answer = {"error": told(error), "kind": "failed"}
        except (ValueError, KeyError, TypeError) as error:
            answer = {"error": f"{type(error).__name__}: {error}", "kind": "misunderstood"}
        try:
            helper.send(answer)
        except frames.Malformed as error:
            helper.send({"error": str(error), "kind": "failed"})


def main(
    stdin: BinaryIO, sync: bytes, more: Mapping[str, Callable[[Helper, Mapping[str, Any]], Any]]
) -> None:
    """Serve on `stdin` and standard output, after the sync string. What prints by mistake goes to stderr."""
    stdout = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    os.chdir("/")
    stdout.write(sync)
    stdout.flush()
    try:
        serve(stdin, stdout, more)
    except BrokenPipeError:
        os._exit(0)
