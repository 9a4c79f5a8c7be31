"""Two sides, the people who edit them, and an oracle that the engine cannot see.

What a path shows is a `Value`, as `Side.tree` gives it. Each user's write has content of its own, so a
version is told from every other one. The oracle follows the users' edits and what becomes of them:

lost       what a user wrote and did not replace himself is on a side or in a trash, at any time
invented   what is visible is whole, and somebody wrote it at that path
cause      a path changes by itself only if the other side's user touched it
untouched  ignored files, and what lies outside the roots, stay as they are

and, once everything is quiet: `settled`.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from devsync.core.ignore import Rule, Rules
from devsync.core.snapshot import RelPath
from devsync.daemon.engine import LOCAL, REMOTE
from tests.contract.replicas import Side
from tests.core.worlds import related

Value = object
"""bytes, (bytes, "x") if executable, "-> target", or None where nothing is."""

Tree = Mapping[RelPath, Value]

SIDES = (LOCAL, REMOTE)
OTHER = {LOCAL: REMOTE, REMOTE: LOCAL}

IGNORED = "data/checkpoint"
RULES = Rules(git=(Rule("", "data", folders_only=True, name_only=True),))


class Violation(AssertionError):
    """An invariant does not hold; the text begins with its name."""


def content(value: Value) -> Value:
    """What must not get lost: the value without its executable bit."""
    return value[0] if isinstance(value, tuple) else value


def executable(value: Value, yes: bool = True) -> Value:
    """A file's value with the bit, or without."""
    return (content(value), "x") if yes else content(value)


@dataclass
class User:
    """What the user of one side did since the sides were last quiet."""

    meant: dict[RelPath, Value] = field(default_factory=dict)
    """What he left at each path that he touched; None where he deleted."""
    deleted: set[RelPath] = field(default_factory=set)
    edits: Counter[RelPath] = field(default_factory=Counter)
    wrote: dict[RelPath, Value] = field(default_factory=dict)
    """The version of his at each path that he has not replaced himself: never to be lost."""


class World:
    """Both sides, and what is known of them. Every edit goes through here."""

    def __init__(
        self,
        sides: Mapping[str, Side],
        *,
        equal_sizes: bool = False,
        outside: Callable[[], object] = lambda: None,
    ) -> None:
        """`outside` shows what lies outside the roots."""
        self.sides = sides
        self.users = {side: User() for side in SIDES}
        self.bases: dict[RelPath, set[Value]] = {}  # what an edit may start from
        self._grounds: dict[RelPath, set[Value]] = {}  # what the last one did start from
        self._past: dict[RelPath, set[Value]] = {}  # every base since the last quiet
        self._agreed: dict[RelPath, Value] = {}
        self._known: dict[RelPath, set[Value]] = {}
        self.mixed: dict[bytes, tuple[bytes, bytes]] = {}
        """What merges have made, of what; whoever merges in this world says so here."""
        self._numbers = itertools.count(1)
        self._equal_sizes = equal_sizes
        self._outside = outside
        for side in SIDES:
            sides[side].write(IGNORED, f"ignored by {side}".encode())
            sides[side].replica.set_rules(RULES)
        self._before = outside()
        self.shown = {side: self._look(side) for side in SIDES}

    # ------------------------------------------------------------ what people do

    def fresh(self) -> bytes:
        """A content like no other; of another size, too, if not told otherwise."""
        number = next(self._numbers)
        return b"%03d" % number + (b"" if self._equal_sizes else b"." * number)

    def write(self, side: str, path: RelPath, value: Value | None = None) -> None:
        """Save a file (a fresh one, if none is given) or make a link. What is in the way goes."""
        value = self.fresh() if value is None else value
        self.observe()
        for other in [p for p in self.shown[side] if p != path and related(p, path)]:
            self._put(side, other, None)
        self._put(side, path, value)

    def delete(self, side: str, path: RelPath) -> None:
        """Remove a path, and all that is below it."""
        self.observe()
        for other in [p for p in self.shown[side] if p == path or p.startswith(path + "/")]:
            self._put(side, other, None)

    def flip(self, side: str, path: RelPath) -> None:
        """Change the executable bit, where there is a file."""
        self.observe()
        value = self.shown[side].get(path)
        if isinstance(value, (bytes, tuple)):
            self._put(side, path, executable(value, not isinstance(value, tuple)))

    def move(self, side: str, path: RelPath, to: RelPath) -> None:
        """Rename a file over whatever is there."""
        value = self.shown[side].get(path)
        if value is not None and not related(path, to):
            self.delete(side, path)
            self.write(side, to, value)

    def revert(self, side: str, path: RelPath) -> None:
        """Bring back what both sides last agreed on, as `git switch` does."""
        value = self._agreed.get(path)
        if value is None:
            self.delete(side, path)
        else:
            self.write(side, path, value)

    def doubt(self, path: RelPath) -> None:
        """A change of this path was begun, and nobody has seen its end.

        Its base may be unknown now, or an older one: made and undone looks like never made.
        """
        doubts = {None, self._agreed.get(path), *self._past.get(path, ())}
        self._bases(path).update(doubts)
        self._grounds.setdefault(path, set()).update(doubts)

    def _bases(self, path: RelPath) -> set[Value]:
        return self.bases.setdefault(path, {self._agreed.get(path)})

    def agreed(self, path: RelPath, value: Value) -> None:
        """Put `value` on both sides as if it had been there always. Only for the beginning."""
        for side in SIDES:
            _place(self.sides[side], path, self.shown[side].get(path), value)
            self.shown[side] = self._look(side)
        self._agreed[path] = value
        self._known.setdefault(path, set()).add(content(value))

    def _put(self, side: str, path: RelPath, value: Value) -> None:
        user = self.users[side]
        self._grounds[path] = set(self._bases(path))
        _place(self.sides[side], path, self.shown[side].get(path), value)
        self.shown[side] = self._look(side)
        user.meant[path] = value
        user.edits[path] += 1
        user.wrote.pop(path, None)
        if value is None:
            user.deleted.add(path)
        else:
            if not isinstance(value, str):
                user.wrote[path] = content(value)
            self._known.setdefault(path, set()).add(content(value))

    # ------------------------------------------------------------ what must hold at any time

    def observe(self) -> None:
        """Look at both sides; what has changed since the last edit, the engine has changed.

        A version that has been carried over is the base of what comes later; one that both sides show
        may be one, if the engine has seen it.
        """
        for side in SIDES:
            now = self._look(side)
            before, self.shown[side] = self.shown[side], now
            if now != before:
                for path in now.keys() | before.keys():
                    if now.get(path) != before.get(path):
                        self._judge(side, path, before.get(path), now.get(path))
        here, there = self.shown[LOCAL], self.shown[REMOTE]
        for path in {*self.users[LOCAL].meant, *self.users[REMOTE].meant}:
            if here.get(path) == there.get(path):
                self._bases(path).add(here.get(path))
        self._nothing_lost()
        if self._outside() != self._before:
            raise Violation("untouched: something outside the roots was changed")

    def _look(self, side: str) -> dict[RelPath, Value]:
        tree = self.sides[side].tree()
        if tree.pop(IGNORED, None) != f"ignored by {side}".encode():
            raise Violation(f"untouched: {IGNORED} on the {side} side was changed")
        return tree

    def _judge(self, side: str, path: RelPath, before: Value, now: Value) -> None:
        if now is not None and not {content(now), *self._parts(now)} & self._known.get(path, set()):
            raise Violation(f"invented: {path} on the {side} side shows {now!r:.60}")
        bases = self._bases(path)
        self._past.setdefault(path, set()).update(bases)
        self.bases[path] = {now, self.shown[OTHER[side]].get(path)}
        if content(now) == content(before):
            self.bases[path] |= bases  # a bit alone has come, of an older version maybe
        mine, theirs = self.users[side], self.users[OTHER[side]]
        if path in mine.meant and now == mine.meant[path]:
            return  # it has come back
        if path not in theirs.meant:
            raise Violation(f"cause: {path} on the {side} side became {now!r:.60}, and nobody asked for it")
        if now is None and path not in theirs.deleted:
            raise Violation(f"cause: {path} went from the {side} side, and nobody deleted it")
        # His bit was merged, or his content.
        kept = content(mine.meant.get(path)) in {content(now), *map(content, bases), *self._parts(now)}
        if path in mine.meant and (before in bases or (kept and now is not None)):
            mine.meant[path] = now  # what he had done was known when this came

    def _parts(self, value: Value) -> set[Value]:
        """What a merge has made this of, if one has."""
        parts: set[Value] = set()
        left = [content(value)]
        while left:
            found = [part for each in left if isinstance(each, bytes) for part in self.mixed.get(each, ())]
            parts.update(found)
            left = list(found)
        return parts

    def _nothing_lost(self) -> None:
        visible = {content(value) for tree in self.shown.values() for value in tree.values()}
        missing = {
            value for user in self.users.values() for value in user.wrote.values() if value not in visible
        }
        if missing and (lost := missing - self.kept()):
            raise Violation(f"lost: {lost!r:.200}")

    def kept(self) -> set[Value]:
        """What is in the trash of either side."""
        return {kept for side in self.sides.values() for kept in side.kept()}

    # ------------------------------------------------------------ what must hold in the end

    def settled(self, conflicts: Collection[RelPath]) -> None:
        """Everything is quiet: both sides agree, and on what they should. Then history begins anew."""
        self.observe()
        for path in conflicts:
            if not all(any(related(path, touched) for touched in user.meant) for user in self.users.values()):
                raise Violation(f"conflict: {path}, where only one side was edited")
        paths = {*self.shown[LOCAL], *self.shown[REMOTE], *self.users[LOCAL].meant, *self.users[REMOTE].meant}
        calm = {path for path in paths if not any(related(path, conflict) for conflict in conflicts)}
        for path in calm:
            self._decided(path)
        for user in self.users.values():
            for path in calm:
                user.meant.pop(path, None)
                user.deleted.discard(path)
                user.edits.pop(path, None)
        for path in calm:
            self._agreed[path] = self.shown[LOCAL].get(path)
            self.bases.pop(path, None)
            self._grounds.pop(path, None)
            self._past.pop(path, None)
        for path in paths - calm:
            self._stands(path)

    def _decided(self, path: RelPath) -> None:
        here, there = (self.shown[side].get(path) for side in SIDES)
        if here != there:
            raise Violation(f"convergence: {path} is {here!r:.60} here and {there!r:.60} there")
        touched = [user for user in self.users.values() if path in user.meant]
        if len(touched) == 1 and here != touched[0].meant[path]:
            raise Violation(f"sole writer: {path} is {here!r:.60}, not {touched[0].meant[path]!r:.60}")
        if len(touched) == 2:
            left, right = (user.meant[path] for user in touched)
            allowed = {merged(each, left, right) for each in self._grounds[path]}
            once = all(user.edits[path] == 1 for user in touched)
            # A bit that was half carried over and then taken back counts as one more edit of it.
            if here not in allowed and (once or content(here) not in {content(value) for value in allowed}):
                raise Violation(f"merge: {path} is {here!r:.60} after {left!r:.60} and {right!r:.60}")

    def _stands(self, path: RelPath) -> None:
        """A conflict leaves each side as its user left it, or as it was carried over before."""
        carried = {content(value) for value in self._bases(path)}
        for side, user in self.users.items():
            now = content(self.shown[side].get(path))  # the bits may have met
            if path in user.meant and now not in {content(user.meant[path]), *carried}:
                raise Violation(f"conflict: {path} on the {side} side is not as its user left it")


def merged(base: Value, left: Value, right: Value) -> Value:
    """The whole policy once more, by itself: what both sides hold in the end, or "conflict"."""
    if right in (left, base):
        return left
    if left == base or left is None:
        return right
    if right is None:
        return left
    if any(isinstance(value, str) for value in (left, right)):
        return "conflict"
    root = None if isinstance(base, str) else content(base)
    found = [content(value) for value in (left, right) if content(value) != root]
    if len({*found}) > 1:
        return "conflict"
    bits = {isinstance(value, tuple) for value in (left, right)}
    bit = bits.pop() if len(bits) == 1 else not isinstance(base, tuple)
    return executable(found[0] if found else root, bit)


def _place(side: Side, path: RelPath, before: Value, value: Value) -> None:
    if isinstance(value, str):
        if before is not None:
            side.remove(path)
        side.link(path, value.removeprefix("-> "))
    elif value is None:
        if before is not None:
            side.remove(path)
    else:
        data = content(value)
        assert isinstance(data, bytes)
        side.write(path, data, isinstance(value, tuple))
