"""Sides on real disks, for users who save whole files in the way of editors, and replicas that can die."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from devsync.daemon.engine import LOCAL, REMOTE
from devsync.replica.local import LocalReplica
from devsync.replica.remote import RemoteReplica
from devsync.ssh.sftp import SftpClient
from tests.contract.replicas import SFTP_SERVER, Disk
from tests.fakes.pipes import PipeStream
from tests.fakes.process import LocalProcess
from tests.model.effects import Effects
from tests.model.model import Model
from tests.model.world import RULES, SIDES, Violation, World


class DiskSide(Disk):
    """A folder and its user. `aside` is on the same disk, outside every root."""

    def __init__(self, root: Path, aside: Path) -> None:
        root.mkdir(parents=True)
        super().__init__(root, LocalReplica(root))
        self._aside = aside

    def write(self, path: str, content: bytes, executable: bool = False) -> None:
        file = self._room(path)
        self._aside.write_bytes(content)
        self._aside.chmod(0o755 if executable else 0o644)
        self._aside.replace(file)

    def link(self, path: str, target: str) -> None:
        self._room(path).symlink_to(target)

    def _room(self, path: str) -> Path:
        file = self._root / path
        for folder, _, _ in os.walk(file, topdown=False):
            os.rmdir(folder)  # folders that hold nothing are nothing
        file.parent.mkdir(parents=True, exist_ok=True)
        return file

    def tidy(self) -> None:
        """Nothing of a commit that died is left after the next start."""
        if left := [*self._root.glob(".devsync/tmp/*"), *self._root.glob(".devsync/trash/*/open.json")]:
            raise Violation(f"leftovers: {left}")


def outside(folder: Path) -> Callable[[], object]:
    """A file outside the roots, and how to look at it."""
    folder.mkdir()
    canary = folder / "outside"
    canary.write_bytes(b"belongs to nobody")
    return lambda: (canary.read_bytes(), canary.stat().st_mtime_ns, sorted(os.listdir(folder)))


def on_disk(folder: Path) -> Model:
    """Two empty folders on this disk, each commit of which tells of its steps."""
    effects = Effects()
    sides = {side: DiskSide(folder / side, folder / "aside") for side in SIDES}
    (folder / "aside").write_bytes(b"")

    def told(side: str, effect: str, _path: str) -> None:
        effects(f"{side} {effect}")

    def renew() -> None:
        for name, side in sides.items():
            side.replica = LocalReplica(folder / name, step=partial(told, name))
            side.replica.set_rules(RULES)

    return Model(World(sides), effects, renew)


class Hooked:
    """The machine's side, whose every answer can be lost after the question was done."""

    def __init__(self, replica: RemoteReplica, effects: Effects) -> None:
        self._replica, self._effects = replica, effects

    def __getattr__(self, name: str) -> Callable[..., object]:
        call = getattr(self._replica, name)

        def hooked(*given: object, **named: object) -> object:
            self._effects(f"remote {name}")
            answer = call(*given, **named)
            self._effects(f"remote {name} done")
            return answer

        return hooked


class Pair:
    """This disk, and a helper over a pipe to another folder of it: made once, wiped for each run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "aside").write_bytes(b"")
        self._outside = outside(folder / "beside")
        self.sides = {side: DiskSide(folder / side, folder / "aside") for side in SIDES}
        self.remote = self._connect()

    def _connect(self) -> RemoteReplica:
        root = str(self.folder / REMOTE)
        return RemoteReplica(LocalProcess, lambda: SftpClient(PipeStream([SFTP_SERVER])), root)

    def model(self) -> Model:
        """Two empty folders."""
        effects = Effects()
        for side in SIDES:
            for entry in sorted((self.folder / side).iterdir()):
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        deaths = itertools.count(1)

        def told(effect: str, _path: str) -> None:
            effects(f"local {effect}")

        def renew() -> None:
            if next(deaths) % 8 == 0:  # now and then the helper has died, too
                self.remote.close()
                self.remote = self._connect()
            self.sides[LOCAL].replica = LocalReplica(self.folder / LOCAL, step=told)
            self.sides[REMOTE].replica = Hooked(self.remote, effects)  # type: ignore[assignment]  # by name
            for side in self.sides.values():
                side.replica.set_rules(RULES)

        self.sides[REMOTE].replica = self.remote
        return Model(World(self.sides, outside=self._outside), effects, renew)

    def close(self) -> None:
        self.remote.close()
