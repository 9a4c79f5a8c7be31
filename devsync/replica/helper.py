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
from devsync.core.snapshot import Change, to_json
from devsync.replica import frames, packing, parcel, trash, wire
from devsync.replica.codec import openers
from devsync.replica.delta import Blocks
from devsync.replica.digests import Digests
from devsync.replica.home import PARCEL
from devsync.replica.inotify import watch
from devsync.replica.naming import probe
from devsync.replica.owner import Taken
from devsync.replica.tree import Tree
from devsync.replica.walk import HOME, MARKER, Blocked, RootGone, told

TEMPORARY_DISKS = ("/mnt/resource", "/mnt", "/media/temp")
"""Where Azure mounts the disk that is empty after a deallocation."""

AZURE_TAG = "7783-7084-3265-9085-8269-3286-77"
"""What the firmware of every machine of Azure's says of itself."""


class Helper:
    """What the verbs share: the folder that `hello` named, and the rules."""

    def __init__(self, stdin: BinaryIO, stdout: BinaryIO) -> None:
        self.stdin = stdin
        self.stdout = stdout
        self.rules = Rules()
        self.changes: list[Change] = []  # of a commit that comes in parts
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
    inside, temporary = _project_around(root), _on_temporary_disk(root)
    refused = bool(inside) or temporary  # by whoever hears this
    if request.get("create") and not refused:
        os.makedirs(root, exist_ok=True)
    exists = os.path.isdir(root)
    if not refused:  # nor is anything else done there that was asked for at the same time
        helper.open(root)
    if exists and not refused:
        try:
            with helper.tree.home():  # made now, so that contents can be staged
                pass
            helper.tree.recall_digests()
        except OSError:
            pass  # a read-only disk can still be looked at
    disk = os.statvfs(_nearest(root))
    return {
        "python": list(sys.version_info[:3]),
        "platform": sys.platform,
        "home": os.path.expanduser("~"),
        "root": root,
        "euid": os.geteuid(),
        "free": disk.f_bavail * disk.f_frsize,
        "exists": exists,
        "temporary_disk": temporary,
        "inside": inside,
        "codecs": sorted(openers()),
    }


def _nearest(path: str) -> str:
    """The folder itself, or the first one above it that is there."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def _project_around(root: str) -> str:
    """The folder of another project that this one would be a part of; empty if there is none."""
    above = os.path.dirname(root)
    while above != root:
        if os.path.lexists(os.path.join(above, HOME, MARKER)):
            return above
        root, above = above, os.path.dirname(above)
    return ""


def _on_temporary_disk(root: str) -> bool:
    """Whether `root` is on the disk that is mounted at one of these places, on a machine of Azure's."""
    device = os.stat(_nearest(root)).st_dev
    for place in TEMPORARY_DISKS:
        if (root + "/").startswith(place + "/") and os.path.ismount(place):
            return os.stat(place).st_dev == device and _is_azure()
    return False


def _is_azure() -> bool:
    try:
        with open("/sys/class/dmi/id/chassis_asset_tag") as tag:
            return tag.read().strip() == AZURE_TAG
    except OSError:
        return False


def set_rules(helper: Helper, request: Mapping[str, Any]) -> None:
    """What is mirrored from now on."""
    helper.rules = Rules.from_json(request["rules"])


def scan(helper: Helper, request: Mapping[str, Any]) -> Any:
    """Look at `scope`, or at everything; of everything, only the groups whose `sums` differ are told."""
    scope = wire.scope_from_json(request["scope"])
    snapshot = helper.tree.scan(helper.rules, scope)
    if scope is not None:
        return wire.snapshot_to_json(snapshot)
    try:
        helper.tree.keep_digests()
    except OSError:
        pass  # a full or read-only disk: the next start reads the files again
    return wire.news_to_json(snapshot, wire.sums_from_json(request["sums"]))


def commit(helper: Helper, request: Mapping[str, Any]) -> Any:
    """Make changes; their contents are staged. Many come in parts, of which the last has no `more`."""
    if not request["before"]:
        helper.changes = []
    if len(helper.changes) != request["before"]:
        raise ValueError("a part of the changes is missing")
    helper.changes += wire.changes_from_json(request["changes"])
    if request["more"]:
        return None
    changes, helper.changes = helper.changes, []
    return wire.outcomes_to_json(helper.tree.commit(changes))


def unpack(helper: Helper, request: Mapping[str, Any]) -> Any:
    """Stage what is in the parcel `name`, while it arrives; the contents that did not come out, and why."""
    opener = openers()[request["codec"]]
    name = os.path.basename(request["name"])
    if not name.startswith(PARCEL):
        raise ValueError("not the name of a parcel")
    helper.tree.beat()  # it may be somebody else's folder by now, and the parcel swept away
    with helper.tree.home() as home:
        return parcel.unpack(home, name, opener, parcel.hung_up(helper.stdin), helper.tree.beat)


def marker(helper: Helper, _request: Mapping[str, Any]) -> Any:
    """The identity of this folder."""
    return helper.tree.marker()


def write_marker(helper: Helper, request: Mapping[str, Any]) -> None:
    """Give this folder an identity."""
    with helper.tree.owned() as home:
        home.write_marker(dict(request["marker"]))


def blocks(helper: Helper, request: Mapping[str, Any]) -> Any:
    """The blocks of a large file, for whoever has another version of it; None if there is none here."""
    with helper.tree.home() as home:
        found = packing.tell_blocks(home, str(request["path"]))
    return None if found is None else found.to_json()


def pack(helper: Helper, request: Mapping[str, Any]) -> Any:
    """Make a parcel of what is new in a file: its name, codec and bytes; None if it is not worth it."""
    older = Blocks.from_json(request["older"])
    content = (str(request["path"]), str(request["digest"]), int(request["size"]))
    helper.tree.beat()
    with helper.tree.home() as home:
        return packing.pack_difference(home, content, int(request["start"]), older, request["codecs"])


def claim(helper: Helper, request: Mapping[str, Any]) -> Any:
    """Make this folder the asker's and finish what a commit that died has left.

    The contents that have arrived in part: digest -> bytes.
    """
    helper.tree.claim(str(request["owner"]), str(request["name"]), bool(request["take_over"]))
    with helper.tree.home() as home:
        return home.parts()


def beat(helper: Helper, _request: Mapping[str, Any]) -> None:
    """The owner lives."""
    helper.tree.beat()


def release(helper: Helper, _request: Mapping[str, Any]) -> None:
    """The owner goes."""
    helper.tree.release()


def naming(helper: Helper, _request: Mapping[str, Any]) -> Any:
    """How names are taken here: whether case folds, and Unicode forms; only UTF-8; the longest."""
    with helper.tree.home() as home:
        found = probe(home)
    return [found.folds_case, found.normalises, found.utf8_only, found.longest]


def versions(helper: Helper, _request: Mapping[str, Any]) -> Any:
    """What is in the trash."""
    with helper.tree.home() as home:
        return [version.to_json() for version in trash.versions(home, helper.tree.digests)]


def restage(helper: Helper, request: Mapping[str, Any]) -> Any:
    """Stage an old version; its leaf."""
    return to_json(helper.tree.restage(str(request["version"])))


def prune(helper: Helper, request: Mapping[str, Any]) -> int:
    """Throw away the oldest of the trash."""
    with helper.tree.owned() as home:
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
    "unpack": unpack,
    "marker": marker,
    "write-marker": write_marker,
    "blocks": blocks,
    "pack": pack,
    "claim": claim,
    "beat": beat,
    "release": release,
    "naming": naming,
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
        except Taken as error:
            answer = {"error": str(error), "kind": "taken"}
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
