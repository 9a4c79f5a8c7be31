"""What does not travel: credentials, and names that a side cannot take. Everything else goes on."""

from __future__ import annotations

import pytest

from devsync.core.ignore import Rule, Rules
from devsync.core.names import Naming
from devsync.core.reconcile import Direction
from devsync.daemon.guard import Guard
from tests.daemon.rig import Pair
from tests.fakes.memory import Content, MemoryReplica

KEY = "-----BEGIN PRIVATE KEY-----\n" + "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC" * 3 + "\n"


@pytest.fixture
def guarded(pair: Pair) -> Pair:
    """A pair with a guard that lets only `allowed.pem` pass."""
    guard(pair)
    return pair


def guard(pair: Pair, *allowed: str) -> None:
    pair.restart()
    pair.engine._holding.guard = Guard(
        lambda path: path in {"allowed.pem", *allowed}
    )  # a Pair makes its engine itself


def test_a_credential_stays_and_the_rest_goes_on(guarded: Pair) -> None:
    for path, text in {".env": "A=1", "key.pem": KEY, "allowed.pem": KEY + "\n", "code.py": "pass"}.items():
        guarded.write(guarded.local, path, text)
    result = guarded.cycle()
    assert result.complete
    assert result.problems == {}
    assert set(guarded.texts(guarded.remote)) == {"allowed.pem", "code.py"}
    assert set(result.plan.held) == set(guarded.engine.held) == {".env", "key.pem"}
    assert "private key" in guarded.engine.held["key.pem"]
    assert "sync.allow_secrets" in guarded.engine.held[".env"]


def test_it_is_held_back_as_long_as_it_looks_like_one(guarded: Pair) -> None:
    guarded.write(guarded.local, "key.pem", KEY)
    guarded.cycle()
    guarded.write(guarded.local, "other.txt", "another path was hinted")
    guarded.cycle({"other.txt"}, set())
    assert set(guarded.engine.held) == {"key.pem"}
    guarded.write(guarded.local, "key.pem", "now a certificate")
    guarded.cycle({"key.pem"}, set())
    assert guarded.engine.held == {}
    assert guarded.texts(guarded.remote)["key.pem"] == "now a certificate"


def test_a_credential_that_comes_into_an_agreed_file_stays(guarded: Pair) -> None:
    guarded.agree(config="harmless")
    guarded.write(guarded.local, "config", KEY)
    guarded.cycle({"config"}, set())
    assert guarded.texts(guarded.remote) == {"config": "harmless"}
    assert set(guarded.engine.held) == {"config"}


def test_a_name_that_is_on_both_sides_is_no_secret_any_more(guarded: Pair) -> None:
    for side in (guarded.local, guarded.remote):
        guarded.write(side, ".env", "the same")
    guarded.cycle()
    guarded.write(guarded.local, ".env", "changed here")
    guarded.cycle({".env"}, set())
    assert guarded.texts(guarded.remote) == {".env": "changed here"}
    del guarded.local.entries[".env"]
    guarded.cycle({".env"}, set())
    assert guarded.texts(guarded.remote) == {}


def test_from_the_machine_only_the_name_counts(guarded: Pair) -> None:
    guarded.write(guarded.remote, ".env", "A=1")
    guarded.write(guarded.remote, "result.txt", KEY)
    guarded.cycle()
    assert set(guarded.texts(guarded.local)) == {"result.txt"}
    assert set(guarded.engine.held) == {".env"}


def test_allowing_it_brings_it_over(guarded: Pair) -> None:
    guarded.write(guarded.local, ".env", "A=1")
    guarded.cycle(direction=Direction.PUSH)
    guard(guarded, ".env")
    assert guarded.cycle(direction=Direction.PUSH).complete
    assert guarded.texts(guarded.remote) == {".env": "A=1"}


def test_an_executable_bit_travels_with_an_agreed_secret(guarded: Pair) -> None:
    guarded.write(guarded.local, "allowed.pem", KEY)
    guarded.cycle()
    guard(guarded)
    guarded.write(guarded.local, "allowed.pem", KEY, executable=True)
    guarded.cycle()
    assert guarded.remote.entries["allowed.pem"] == Content(KEY.encode(), True)


def test_157_no_rule_of_git_lets_a_credential_go(guarded: Pair) -> None:
    guarded.write(guarded.local, ".env", "A=1")
    guarded.write(guarded.local, "code.py", "pass")
    guarded.local.set_rules(Rules(git=(Rule("", ".env", folders_only=False, name_only=True),)))
    guarded.cycle()
    assert guarded.engine.held == {}, "it is ignored"
    guarded.local.set_rules(Rules())  # the ignore file has changed
    guarded.cycle()
    assert set(guarded.texts(guarded.remote)) == {"code.py"}
    assert set(guarded.engine.held) == {".env"}


class Folding(MemoryReplica):
    """A side that takes names that differ by case for one."""

    def naming(self) -> Naming:
        return Naming(folds_case=True, longest=20)


@pytest.fixture
def folding(pair: Pair) -> Pair:
    """A pair whose local side folds case."""
    pair.local = Folding()
    pair.restart()
    return pair


def test_of_two_names_that_are_one_here_only_the_first_comes(folding: Pair) -> None:
    for path in ("Data/x", "data/y", "README", "readme", "fine", "n" * 21):
        folding.write(folding.remote, path, path * 2)
    assert folding.cycle().complete
    assert set(folding.texts(folding.local)) == {"Data/x", "README", "fine"}
    assert set(folding.engine.held) == {"data/y", "readme", "n" * 21}
    folding.write(folding.remote, "FINE", "comes later")
    folding.cycle(set(), {"FINE"})
    assert set(folding.engine.held) == {"data/y", "readme", "n" * 21, "FINE"}
    assert len(folding.texts(folding.remote)) == 7, "nothing is lost there"


def test_a_rename_by_case_alone_is_carried_over(folding: Pair) -> None:
    folding.agree(Model="the model")
    folding.remote.entries["model"] = folding.remote.entries.pop("Model")
    folding.cycle()
    assert folding.texts(folding.local) == {"model": "the model"}
    folding.local.entries["MODEL"] = folding.local.entries.pop("model")
    folding.cycle()
    assert folding.texts(folding.remote) == {"MODEL": "the model"}
    assert folding.engine.held == {}
