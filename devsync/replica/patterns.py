"""One line of an ignore file, as a `Rule`. The only importer of pathspec.

pathspec translates wildcards; what it reads otherwise than git does is taken out of its way here:
where a line ends, the trailing slash, brackets, runs of stars. Lines are bytes, as git matches them,
and stand in strings as latin-1.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Iterator

from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

from devsync.core.ignore import Rule
from devsync.core.snapshot import RelPath

_ELSEWHERE = "\0"  # holds the place of what pathspec shall not see; no line holds one
_OPEN_END = "(?:(?P<ps_d>/)|$)"  # pathspec: the path itself, or anything below it

_CLASSES = {
    "alnum": string.ascii_letters + string.digits,
    "alpha": string.ascii_letters,
    "blank": " \t",
    "cntrl": "".join(map(chr, [*range(32), 127])),
    "digit": string.digits,
    "graph": "".join(map(chr, range(33, 127))),
    "lower": string.ascii_lowercase,
    "print": "".join(map(chr, range(32, 127))),
    "punct": string.punctuation,
    "space": string.whitespace,
    "upper": string.ascii_uppercase,
    "xdigit": string.hexdigits,
}


def read_rules(content: bytes, directory: RelPath, *, above: str = "", folds: bool = False) -> list[Rule]:
    """The rules of an ignore file that holds below `directory`. `folds`: case makes no difference."""
    lines = content.removeprefix(b"\xef\xbb\xbf").decode("latin-1").split("\n")
    rules = (_rule(line.removesuffix("\r"), directory, above, folds) for line in lines)
    return [rule for rule in rules if rule is not None]


def patterns_to_rules(patterns: Iterable[str]) -> list[Rule]:
    """The rules of patterns that were given one by one, as in `sync.ignore`; they hold from the root."""
    lines = (pattern.encode("utf-8", "surrogateescape").replace(b"\n", b"") for pattern in patterns)
    return [rule for line in lines for rule in read_rules(line, "")]


def _rule(line: str, directory: RelPath, above: str, folds: bool) -> Rule | None:
    if line.startswith("#"):
        return None
    pattern = _without_trailing_spaces(line.partition("\0")[0])
    ignores = not pattern.startswith("!")
    pattern = pattern if ignores else pattern[1:]
    folders_only = pattern.endswith("/")
    pattern = pattern[:-1] if folders_only else pattern
    name_only = "/" not in pattern
    pattern = pattern.removeprefix("/")
    if not pattern or pattern.endswith("/"):
        return None
    # git compares the text before the first wildcard by itself, and begins anew behind it.
    literal = re.match(r"[^*?\[\\]*", pattern)
    start = literal.group() if literal else ""
    rest = _wildcards(pattern[len(start) :])
    if rest is None:
        return None
    regex = re.escape(start) + rest
    return Rule(directory, f"(?i:{regex})" if folds else regex, ignores, folders_only, name_only, above)


def _without_trailing_spaces(line: str) -> str:
    """The line without the spaces at its end; one behind a backslash belongs to the pattern."""
    end = at = 0
    while at < len(line):
        if line[at] == "\\":
            at += 1
            if at == len(line):
                return line
            end = at + 1
        elif line[at] != " ":
            end = at + 1
        at += 1
    return line[:end]


def _wildcards(pattern: str) -> str | None:
    """The regular expression of a pattern that begins with a wildcard; None if it can match nothing."""
    if not pattern:
        return ""
    hidden: list[str] = []
    try:
        plain = "".join(_readable(pattern, hidden))
        regex, _ = GitIgnoreSpecPattern.pattern_to_regex("/" + plain)
    except ValueError:
        return None
    if regex is None:
        return None
    if regex == ".":
        return ".*"
    # No name is empty, so "one or more" says too much only where a literal start stands before it.
    regex = regex.removeprefix("^").replace("[^/]+", "[^/]*").replace("(?:.+/)?", "(?:.*/)?")
    regex = regex.removesuffix(_OPEN_END) if regex.endswith(_OPEN_END) else regex + ".*"
    classes = iter(hidden)
    return re.sub(_ELSEWHERE, lambda _: next(classes), regex)


def _readable(pattern: str, hidden: list[str]) -> Iterator[str]:
    """The pattern, piece by piece, in words that pathspec reads as git does. ValueError: matches nothing."""
    at = 0
    while at < len(pattern):
        begin, char = at, pattern[at]
        at += 1
        if char == "[":
            regex, at = _bracket(pattern, at)
            hidden.append(regex)
            yield _ELSEWHERE
            continue
        if char == "*":
            while pattern[at : at + 1] == "*":
                at += 1
            whole = pattern[begin - 1 : begin] in ("", "/") and (
                pattern[at : at + 1] in ("", "/") or pattern[at : at + 2] == "\\/"
            )
            if whole and at - begin > 1:  # before an escaped slash it stands for one folder at least
                yield "*/**" if pattern[at : at + 1] == "\\" else "**"
            else:
                yield "*"
            continue
        escaped = char == "\\"
        if escaped:
            char = _at(pattern, at)
            at += 1
        if char.isspace():  # pathspec strips it
            hidden.append(re.escape(char))
            yield _ELSEWHERE
        else:
            yield "\\" + char if escaped and char != "/" else char


def _bracket(pattern: str, at: int) -> tuple[str, int]:
    """The class that opens before `at`, and where the pattern goes on. ValueError if it never closes."""
    negated = _at(pattern, at) in "!^"
    at += negated
    members: set[str] = set()
    before = ""  # what a '-' would begin with
    first = True
    while first or _at(pattern, at) != "]":
        first = False
        char = _at(pattern, at)
        if char == "[" and pattern[at + 1 : at + 2] == ":":
            close = pattern.find("]", at + 2)
            if close < 0:
                raise ValueError("the class never closes")
            if close > at + 2 and pattern[close - 1] == ":":
                name = pattern[at + 2 : close - 1]
                if name not in _CLASSES:
                    raise ValueError("no such class")
                members.update(_CLASSES[name])
                before, at = "", close + 1
                continue
        elif char == "-" and before and pattern[at + 1 : at + 2] not in ("", "]"):
            at += 1
            if pattern[at] == "\\":
                at += 1
            members.update(map(chr, range(ord(before), ord(_at(pattern, at)) + 1)))
            before, at = "", at + 1
            continue
        elif char == "\\":
            at += 1
            char = _at(pattern, at)
        members.add(char)
        before, at = char, at + 1
    return _class(set(map(chr, range(256))) - members if negated else members), at + 1


def _class(members: set[str]) -> str:
    members = members - {"/", "\0"}  # neither is part of a name
    return "[" + "".join(f"\\x{ord(char):02x}" for char in sorted(members)) + "]" if members else "(?!)"


def _at(pattern: str, at: int) -> str:
    if at >= len(pattern):
        raise ValueError("the pattern ends too early")
    return pattern[at]
