"""The secret guard: a corpus of what must be seen, and of what must not be taken for a secret."""

from __future__ import annotations

import base64
import hashlib
import os
import string
import sysconfig
import time
from pathlib import Path

import pytest

from devsync.core.secrets import HEAD, by_content, by_name


def noise(length: int, letters: str = string.ascii_letters + string.digits) -> str:
    """Letters that look random and are the same each time. Written out, they would be taken for a leak."""
    digits = hashlib.sha512(str(length).encode()).digest() * 4
    return "".join(letters[digit % len(letters)] for digit in digits)[:length]


def pem(kind: str = "", headers: str = "", newline: str = "\n") -> str:
    """A private key that opens nothing."""
    body = base64.encodebytes(noise(96).encode()).decode().rstrip().replace("\n", newline)
    dashes = "-" * 5
    return newline.join(
        [f"{dashes}BEGIN {kind}PRIVATE KEY{dashes}{headers}", body, f"{dashes}END {kind}PRIVATE KEY{dashes}"]
    )


UPPER = string.ascii_uppercase + "234567"

SECRET_NAMES = [
    *(
        ".env",
        "app/.env",
        ".env.local",
        ".env.production",
        ".ENV",
        "id_rsa",
        "deploy/id_ed25519",
        "id_ecdsa_sk",
    ),
    *("windows.ppk", "cert.p12", "cert.PFX", ".netrc", "_netrc", ".pgpass", ".pypirc", ".git-credentials"),
    *(".aws/credentials", "home/.aws/credentials", ".azure/accessTokens.json", ".azure/msal_token_cache.bin"),
    *("kubeconfig", "prod.kubeconfig", ".kube/config", "credentials.json", "client_secret_42.json"),
    *(".docker/config.json", ".config/gcloud/application_default_credentials.json", "signing.keystore"),
]
PLAIN_NAMES = [
    *(
        ".env.example",
        ".env.sample",
        ".env.template",
        ".env.local.example",
        "id_rsa.pub",
        "env",
        "env.py",
        ".envrc",
    ),
    *(
        "environment.yml",
        "credentials.py",
        "credentials.json.md",
        "aws/credentials",
        ".aws/config",
        "config.json",
    ),
    *(
        "src/token.py",
        "tokenizer.json",
        "secrets.py",
        "ca.pem",
        "public.key",
        "netrc.py",
        "keystore/readme",
        ".npmrc",
    ),
    *(
        "pgpass",
        "my.envelope",
        ".env/lib/python3.11/site.py",
        "config",
        ".azure/config",
        "docker/config.json",
    ),
]
SECRETS = {
    "pkcs8": pem(),
    "rsa": pem("RSA "),
    "openssh": pem("OPENSSH "),
    "encrypted": pem("RSA ", "\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00FF\n"),
    "windows newlines": pem("EC ", newline="\r\n"),
    "pgp": pem("PGP ", "\nVersion: 1\n").replace("PRIVATE KEY", "PRIVATE KEY BLOCK"),
    "in yaml": "key: |\n      " + pem(newline="\n      "),
    "in python": f'KEY = """{pem()}"""\n',
    "service account": '{"type": "service_account", "private_key": "' + pem(newline="\\n") + '"}',
    "putty": "PuTTY-User-Key-File-3: ssh-ed25519\n",
    "age": f"AGE-SECRET-KEY-1{noise(58, string.ascii_uppercase)}",
    "aws": f"aws_access_key_id = AKIA{noise(16, UPPER)}\n",
    "aws, for a while": f"export AWS_ACCESS_KEY_ID=ASIA{noise(16, UPPER)}\n",
    "github": f"token = 'ghp_{noise(36)}'",
    "github, of an action": f"ghs_{noise(36)}",
    "github, fine-grained": f"github_pat_{noise(22)}_{noise(59)}",
    "gitlab": f"glpat-{noise(20)}",
    "slack": f"xoxb-{noise(12, string.digits)}-{noise(24)}",
    "slack hook": f"https://hooks.slack.com/services/T{noise(8, UPPER)}/B{noise(9, UPPER)}/{noise(24)}",
    "azure storage": f"DefaultEndpointsProtocol=https;AccountName=a;AccountKey={noise(86)}==;",
    "azure bus": f"Endpoint=sb://a/;SharedAccessKeyName=k;SharedAccessKey={noise(43)}=",
    "google": f'key: "AIza{noise(35)}"',
    "hugging face": f"HF_TOKEN=hf_{noise(34, string.ascii_letters)}\n",
    "model": f"sk-proj-{noise(48)}",
    "payments": f"sk_live_{noise(24)}",
    "pypi": f"password = pypi-AgEIcHlwaS5vcmc{noise(60)}",
    "npm": f"//registry.npmjs.org/:_authToken={noise(36)}\n",
    "kubernetes": f"users:\n- user:\n    client-key-data: {noise(80)}\n",
    "in a notebook": '{"cells": [{"source": ["t = \\"ghp_' + noise(36) + '\\""]}]}',
}
PLAIN = {
    "nothing": "",
    "code about keys": 'if line.startswith("-----BEGIN PRIVATE KEY-----"):\n    raise ValueError\n',
    "a key that was cut": "-----BEGIN RSA PRIVATE KEY-----\n...\n-----END RSA PRIVATE KEY-----",
    "a public key": pem().replace("PRIVATE", "PUBLIC"),
    "a certificate": pem().replace("PRIVATE KEY", "CERTIFICATE"),
    "documentation of AWS": "AKIAIOSFODNN7EXAMPLE wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "a token of x": "ghp_" + "x" * 36,
    "the emulator": "AccountKey="
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
    "a reference": "//registry.npmjs.org/:_authToken=${NPM_TOKEN}\n",
    "a part of a word": f"fooghp_{noise(36)} MAKIA{noise(16, UPPER)}",
    "a name": "hf_hub_download(repo) and sk-learn and npm_config_cache",
    "hashes": "\n".join(hashlib.sha256(bytes([n])).hexdigest() for n in range(50)),
    "a password without a form": "password = 'hunter2'",
}


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_a_name_gives_a_secret_away(name: str) -> None:
    assert by_name(name)


@pytest.mark.parametrize("name", PLAIN_NAMES)
def test_a_name_that_is_none(name: str) -> None:
    assert by_name(name) == ""


@pytest.mark.parametrize("text", SECRETS.values(), ids=SECRETS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_content_gives_a_secret_away(text: str, encoding: str) -> None:
    assert by_content(text.encode(encoding))
    assert by_content(("# some text before it\n" * 50 + text + "\nand behind it\n").encode(encoding))


@pytest.mark.parametrize("text", PLAIN.values(), ids=PLAIN)
def test_a_content_that_is_none(text: str) -> None:
    assert by_content(text.encode()) == ""


def test_only_the_beginning_is_looked_at() -> None:
    secret = SECRETS["github"].encode()
    assert by_content(b" " * (HEAD - len(secret)) + secret)
    assert by_content(b" " * HEAD + secret) == ""


def test_of_the_standard_library_only_the_keys_among_its_tests_are_held_back() -> None:
    library = Path(sysconfig.get_paths()["stdlib"])
    found = []
    for folder, below, names in os.walk(library):
        below[:] = [name for name in below if name not in ("site-packages", "__pycache__")]
        for name in names:
            path = Path(folder, name)
            where = str(path.relative_to(library))
            with path.open("rb") as file:
                if by_name(where) or by_content(file.read(HEAD)):
                    found.append(where)
    assert [path for path in found if not (path.startswith("test/") and path.endswith(".pem"))] == []


@pytest.mark.parametrize(
    "piece",
    [
        *(b"-----BEGIN PRIVATE KEY-----\n", b"-----BEGIN PRIVATE KEY-----\na: a: a: a: ", b"\n", b" " * 9),
        *(b"a: b\n", b":_authToken ", b"AKIA", b"xoxb-1", b"hooks.slack.com/services/T", b"A" * 50),
    ],
)
def test_no_content_makes_the_search_slow(piece: bytes) -> None:
    head = (b"-----BEGIN PRIVATE KEY-----\n:_authToken " + piece * HEAD)[:HEAD]
    began = time.perf_counter()
    by_content(head)
    assert time.perf_counter() - began < 1.0
