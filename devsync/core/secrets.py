"""What looks like a credential, by the name of a file or by the beginning of its content.

A guard against accidents, not against somebody who wants a secret to pass: the words behind each
pattern are fixed, public formats, so what has no form of its own (a password in a text) is not seen.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from devsync.core.snapshot import RelPath

HEAD = 1 << 16
"""Bytes of a content that are looked at."""

_TEMPLATES = (".example", ".sample", ".template", ".dist")

_NAMES: Mapping[str, str] = {
    r"\.env(\..+)?": "environment file",
    r"id_(rsa|dsa|ecdsa|ed25519)(_sk)?": "SSH private key",
    r".+\.ppk": "PuTTY private key",
    r".+\.(p12|pfx|jks|keystore)": "key store",
    r"[._]netrc": "passwords for servers",
    r"\.pgpass": "database passwords",
    r"\.pypirc": "PyPI login",
    r"\.git-credentials": "git passwords",
    r"kubeconfig|.+\.kubeconfig": "Kubernetes login",
    r"credentials\.json|client_secret.*\.json": "credentials",
}
_PLACES: Mapping[str, str] = {
    r"\.aws/credentials": "AWS credentials",
    r"\.azure/[^/]*(token|msal|service_principal)[^/]*": "Azure tokens",
    r"\.kube/config": "Kubernetes login",
    r"\.docker/config\.json": "registry login",
    r"\.config/gcloud/.*(credentials|tokens).*": "Google Cloud credentials",
}
_BY_NAME = [(re.compile(pattern, re.DOTALL), reason) for pattern, reason in _NAMES.items()]
_ANY_NAME = re.compile("|".join(_NAMES), re.DOTALL)
_BY_PLACE = [(re.compile(f"(.*/)?{pattern}", re.DOTALL), reason) for pattern, reason in _PLACES.items()]


class _Mark(NamedTuple):
    """A credential's form. `literal` is in every match and quick to look for; group 1, if there is one,
    is what must look random: documentation is full of tokens that are nothing but x.
    """

    literal: bytes
    pattern: re.Pattern[bytes]
    reason: str


def _mark(literal: bytes, pattern: bytes, reason: str) -> _Mark:
    return _Mark(literal, re.compile(pattern), reason)


# Behind headers such as Proc-Type. Every repetition is bounded or ends in a line, so that no content
# can make the search slow.
_KEY_BODY = rb"(?:\\n|\s){1,64}(?:[A-Za-z-]{1,64}: [^\n]*\n){0,8}\s{0,64}[A-Za-z0-9+/]{32}"
_KEY = rb"-----BEGIN (?:[A-Z0-9]{1,16} ){0,4}PRIVATE KEY(?: BLOCK)?-----" + _KEY_BODY
_SLACK_HOOK = rb"hooks\.slack\.com/services/T[A-Z0-9]{6,16}/B[A-Z0-9]{6,16}/([A-Za-z0-9]{20})"
_MARKS = (
    _mark(b"PRIVATE KEY", _KEY, "private key"),
    _mark(b"PuTTY-User-Key-File-", rb"(?m)^PuTTY-User-Key-File-\d:", "PuTTY private key"),
    _mark(b"AGE-SECRET-KEY-1", rb"AGE-SECRET-KEY-1([A-Z0-9]{58})", "age private key"),
    _mark(b"AKIA", rb"\bAKIA([A-Z2-7]{16})\b(?<!EXAMPLE)", "AWS access key"),
    _mark(b"ASIA", rb"\bASIA([A-Z2-7]{16})\b(?<!EXAMPLE)", "AWS access key"),
    *(_mark(b"gh%c_" % kind, rb"\bgh%c_([A-Za-z0-9]{36})" % kind, "GitHub token") for kind in b"pousr"),
    _mark(b"github_pat_", rb"\bgithub_pat_([A-Za-z0-9_]{70})", "GitHub token"),
    _mark(b"glpat-", rb"\bglpat-([A-Za-z0-9_-]{20})", "GitLab token"),
    _mark(b"xox", rb"\bxox[abeoprs]-(\d[A-Za-z0-9-]{20,})", "Slack token"),
    _mark(b"hooks.slack.com/", _SLACK_HOOK, "Slack token"),
    _mark(b"AccountKey=", rb"AccountKey=([A-Za-z0-9+/]{86}==)", "Azure storage key"),
    _mark(b"SharedAccessKey=", rb"SharedAccessKey=([A-Za-z0-9+/]{43}=)", "Azure access key"),
    _mark(b"AIza", rb"\bAIza([A-Za-z0-9_-]{35})", "Google API key"),
    _mark(b"hf_", rb"\bhf_([A-Za-z0-9]{34})\b", "Hugging Face token"),
    _mark(b"sk-", rb"\bsk-(?:proj-|ant-|svcacct-)([A-Za-z0-9_-]{32,})", "key of a language model"),
    _mark(b"sk_live_", rb"\b[sr]k_live_([A-Za-z0-9]{24})", "Stripe key"),
    _mark(b"pypi-", rb"\bpypi-AgE([A-Za-z0-9_-]{40})", "PyPI token"),
    _mark(b"npm_", rb"\bnpm_([A-Za-z0-9]{36})\b", "npm token"),
    _mark(b"_authToken", rb"(?m)^[^#;\n]*:_authToken\s*=\s*(?!\$\{)\S", "npm token"),
    _mark(b"client-key-data:", rb"client-key-data:\s*[A-Za-z0-9+/]{40}", "Kubernetes login"),
)  # fmt: skip

_PUBLIC = (b"Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",)
"""Keys that are the same everywhere: the storage emulator's."""


def by_name(path: RelPath) -> str:
    """What the name of a file says that it holds, or ""."""
    whole = path.lower()
    name = whole.rpartition("/")[2]
    if name.endswith(_TEMPLATES):
        return ""
    # Nearly every name is innocent, and there may be many: one look tells so.
    suspects = [(_BY_NAME, name)] if _ANY_NAME.fullmatch(name) else []
    if "/." in f"/{whole}":  # as every place has it
        suspects.append((_BY_PLACE, whole))
    for patterns, text in suspects:
        for pattern, reason in patterns:
            if pattern.fullmatch(text):
                return reason
    return ""


def by_content(head: bytes) -> str:
    """What the beginning of a content shows, or "". More than HEAD bytes are not looked at."""
    head = head[:HEAD]
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        head = head[2:].replace(b"\0", b"")  # UTF-16, as PowerShell writes it
    for literal, pattern, reason in _MARKS:
        if literal in head and any(_random(match) for match in pattern.finditer(head)):
            return reason
    return ""


def _random(match: re.Match[bytes]) -> bool:
    if not match.re.groups:
        return True
    return match[1] not in _PUBLIC and len(set(match[1])) >= 8
