"""devsync.toml: what is read, and every way in which it can be wrong."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from devsync import config, folders
from devsync.config import SETTINGS, AzureConfig, Config, SshConfig, TunnelConfig
from devsync.folders import user_file
from devsync.ports import Misuse
from devsync.settings.idle import IdleConfig

TOP = Path(__file__).parents[2]

LOCAL = '[machine]\nprovider = "local"\n'


class World:
    """A project folder and a home folder."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "my-model"
        self.home = folder / "home"
        self.root.mkdir()
        (self.home / ".ssh").mkdir(parents=True)
        self.environ = {"HOME": str(self.home)}

    def write(self, text: str) -> None:
        (self.root / "devsync.toml").write_bytes(text.encode("utf-8"))

    def write_defaults(self, text: str) -> Path:
        path = user_file(self.environ)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def load(self, text: str) -> Config:
        self.write(text)
        return config.load(self.root, environ=self.environ)

    def problems(self, text: str) -> list[str]:
        with pytest.raises(Misuse) as caught:
            self.load(text)
        assert caught.value.exit_status == 2
        first, *lines = caught.value.message.splitlines()
        assert str(self.root) in first
        return lines


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


# ---------------------------------------------------------------- what is right


def test_the_defaults(world: World) -> None:
    found = world.load('[machine.azure]\nsubscription_id = "s"\nresource_group = "g"\nvm_name = "v"\n')
    assert found.name == "my-model"
    assert found.root == world.root
    assert found.machine.provider == "azure"
    assert found.machine.azure == AzureConfig("s", "g", "v", "cli", "https://management.azure.com", None)
    assert (found.ssh.host, found.ssh.port, found.ssh.user) == (None, None, "azureuser")
    assert found.ssh.identity_file is None
    assert found.ssh.known_hosts is None
    assert (found.sync.path, found.sync.mode, found.sync.ignore) == ("~/work/my-model", "two-way", ())
    assert (found.sync.settle, found.sync.max_deletions, found.sync.allow_secrets) == (0.02, 0.1, ())
    assert (found.sync.max_file, found.sync.max_arrivals) == (2 << 30, 10 << 30)
    assert found.tunnels == (TunnelConfig(8888, 8888),)
    assert found.idle == IdleConfig(2700.0, 300.0, 30.0)
    assert found.failsafe.lease == 3 * 3600


def test_everything_said(world: World) -> None:
    (world.home / "key").write_text("k")
    (world.root / "ca.pem").write_text("certificate")
    found = world.load(
        """
        tunnel = [{ local = 0, remote = 80 }, { local = 9000 }]
        project.name = "other"
        [machine]
        provider = "azure"
        azure = { subscription_id = "s", resource_group = "g", vm_name = "v", ca_bundle = "ca.pem" }
        [ssh]
        host = "::1"
        port = 2222
        user = "ada"
        identity_file = "~/key"
        known_hosts = "/etc/ssh/known"
        [sync]
        path = "/data/x/"
        mode = "mirror"
        ignore = ["data/", "!*.py"]
        settle = "0s"
        max_deletions = "50%"
        allow_secrets = [".env"]
        [idle]
        after = "never"
        warn = "1h"
        check = "500ms"
        [failsafe]
        lease = "off"
        """
    )
    assert found.name == "other"
    assert found.machine.azure is not None
    assert found.machine.azure.ca_bundle == world.root / "ca.pem"
    assert found.ssh.identity_file == world.home / "key"
    assert (found.ssh.host, found.ssh.port, found.ssh.user) == ("::1", 2222, "ada")
    assert found.sync.path == "/data/x"
    assert found.sync.ignore == ("data/", "!*.py")
    assert (found.sync.settle, found.sync.max_deletions) == (0, 0.5)
    assert found.tunnels == (TunnelConfig(0, 80), TunnelConfig(9000, 9000))
    assert found.idle == IdleConfig(None, 3600.0, 0.5)
    assert found.failsafe.lease is None


def test_another_endpoint(world: World) -> None:
    found = world.load(
        '[machine.azure]\nsubscription_id = "s"\nresource_group = "g"\nvm_name = "v"\n'
        'credential = "managed-identity"\nendpoint = "https://127.0.0.1:8443/"\n'
    )
    assert found.machine.azure == AzureConfig("s", "g", "v", "managed-identity", "https://127.0.0.1:8443")


def test_no_tunnel_at_all(world: World) -> None:
    assert world.load("tunnel = []\n" + LOCAL).tunnels == ()


def test_two_tunnels_to_any_free_port(world: World) -> None:
    text = LOCAL + "[[tunnel]]\nlocal = 0\nremote = 1\n[[tunnel]]\nlocal = 0\nremote = 2\n"
    assert world.load(text).tunnels == (TunnelConfig(0, 1), TunnelConfig(0, 2))


def test_what_is_not_said_is_left_to_the_ssh_configuration(world: World) -> None:
    key = world.home / ".ssh" / "id_ed25519"
    key.write_text("a key that ssh finds by itself")
    assert world.load(LOCAL).ssh == SshConfig(None, None, None, None, None)


def test_azure_is_left_out_for_other_providers(world: World) -> None:
    assert world.load(LOCAL + '[machine.azure]\nvm_name = "v"\n').machine.azure is None


def test_the_usual_warning_is_never_longer_than_after(world: World) -> None:
    assert world.load(LOCAL + '[idle]\nafter = "90s"\n').idle.warn == 90


def test_a_folder_name_that_cannot_be_shown(tmp_path: Path) -> None:
    root = tmp_path / "a\x1b[31mb"
    root.mkdir()
    (root / "devsync.toml").write_text(LOCAL)
    found = config.load(root, environ={"HOME": str(tmp_path)})
    assert found.name == "a-[31mb"
    assert found.sync.path == "~/work/a-[31mb"


# ---------------------------------------------------------------- what is wrong

WRONG = [
    # a whole file beside [machine] provider = "local"; the line, the key and what is said of it
    ('[idel]\nafter = "45m"', 4, "idel.after", "unknown key, did you mean 'idle.after'?"),
    ('[idle]\naftr = "45m"', 4, "idle.aftr", "did you mean 'idle.after'?"),
    ('[sync]\nhost = "x"', 4, "sync.host", "did you mean 'ssh.host'?"),
    ('[ssh]\nafter = "1h"', 4, "ssh.after", "did you mean 'idle.after'?"),
    ("[idel]", 3, "idel", "did you mean 'idle'?"),
    ("[zzz]\nqqq = 1", 4, "zzz.qqq", "unknown key"),
    ("[[tunnels]]\nlocal = 1", 3, "tunnels", "did you mean 'tunnel'?"),
    ('["a\\u001bb"]\nx = 1', 4, '"a\\x1bb".x', "unknown key"),
    ("[[tunnel]]\nlocal = 1\nlocl = 2", 5, "tunnel.locl", "did you mean 'tunnel.local'?"),
    ('idle = "45m"', 3, "machine.idle", "did you mean 'idle'?"),
    ("[project]\nname = 3", 4, "project.name", "must be a text in quotes, not 3"),
    ('[project]\nname = ""', 4, "project.name", "is empty"),
    ('[project]\nname = "a/b"', 4, "project.name", "must not contain '/'"),
    ('[project]\nname = "a\\nb"', 4, "project.name", "control character"),
    ('[ssh]\nport = "22"', 4, "ssh.port", "must be a number without quotes, not a text"),
    ("[ssh]\nport = true", 4, "ssh.port", "not true or false"),
    ("[ssh]\nport = 22.0", 4, "ssh.port", "must be a number"),
    ("[ssh]\nport = 0", 4, "ssh.port", "must be from 1 to 65535, not 0"),
    ("[ssh]\nport = 65536", 4, "ssh.port", "must be from 1 to 65535"),
    ('[ssh]\nhost = "ada@h"', 4, "ssh.host", "has a character that cannot be part of it"),
    ('[ssh]\nhost = "-oProxyCommand=x"', 4, "ssh.host", "has a character that cannot be part of it"),
    ('[ssh]\nuser = "a b"', 4, "ssh.user", "has a character that cannot be part of it"),
    ('[ssh.host]\nname = "h"', 3, "ssh.host", "must be a text in quotes, not a table"),
    ('[ssh]\nidentity_file = "~/gone"', 4, "ssh.identity_file", "no such identity file: "),
    ('[ssh]\nidentity_file = "."', 4, "ssh.identity_file", "no such identity file: "),
    ('[machine.azure]\nca_bundle = "gone"', 4, "machine.azure.ca_bundle", "no such file: "),
    ('[machine.azure]\nendpoint = "http://x"', 4, "machine.azure.endpoint", "must be https://"),
    ('[machine.azure]\nendpoint = "https://x/y"', 4, "machine.azure.endpoint", "must be https://"),
    ('[machine.azure]\ncredential = "clii"', 4, "machine.azure.credential", "did you mean 'cli'?"),
    ('[sync]\nmode = "twoway"', 4, "sync.mode", "is none of two-way, mirror, did you mean 'two-way'?"),
    ('[sync]\npath = ""', 4, "sync.path", "is empty"),
    ('[sync]\npath = "/"', 4, "sync.path", "the whole disk"),
    ('[sync]\npath = "//."', 4, "sync.path", "the whole disk"),
    ('[sync]\npath = "~/"', 4, "sync.path", "the home folder"),
    ('[sync]\npath = "~"', 4, "sync.path", "the home folder"),
    ('[sync]\npath = "work/x"', 4, "sync.path", "must begin with '/' or '~/'"),
    ('[sync]\npath = "~/../x"', 4, "sync.path", "must not contain '..'"),
    ('[sync]\npath = "/mnt"', 4, "sync.path", "Azure's temporary disk"),
    ('[sync]\npath = "/mnt/work"', 4, "sync.path", "Azure's temporary disk"),
    ('[sync]\npath = "//./mnt//work"', 4, "sync.path", "Azure's temporary disk"),
    ('[sync]\nignore = "data/"', 4, "sync.ignore", "must be a list of texts in brackets, not a text"),
    ("[sync]\nignore = [\n  1]", 4, "sync.ignore", "must be a text in quotes, not 1"),
    ("[sync]\nsettle = 20", 4, "sync.settle", "with its unit and in quotes"),
    ('[sync]\nsettle = "-1s"', 4, "sync.settle", "is not written like 45m"),
    ("[sync]\nmax_deletions = 10", 4, "sync.max_deletions", "as a percentage in quotes"),
    ('[sync]\nmax_deletions = "110%"', 4, "sync.max_deletions", "more than 100%"),
    ('[idle]\nafter = "45"', 4, "idle.after", "needs a unit"),
    ('[idle]\nafter = "45min"', 4, "idle.after", "unknown unit 'min'"),
    ('[idle]\nafter = "0s"', 4, "idle.after", "must be longer than nothing"),
    ('[idle]\ncpu = "20%"', 4, "idle.cpu", "must be a number without quotes"),
    ("[idle]\ngpu = 101", 4, "idle.gpu", "must be from 0 to 100, not 101"),
    ('[idle.signals]\ncpu = "of"', 4, "idle.signals.cpu", "did you mean 'off'?"),
    ('[idle]\nwarn = "off"', 4, "idle.warn", "is not written like 45m"),
    ('[idle]\nafter = "1m"\nwarn = "2m"', 5, "idle.warn", "2m is longer than idle.after, 1m"),
    ("[failsafe]\nlease = 3", 4, "failsafe.lease", "with its unit"),
    ("[tunnel]\nlocal = 1", 3, "tunnel", "must be written [[tunnel]]"),
    ("[[tunnel]]\nremote = 1", 3, "tunnel.local", "is missing"),
    ("[[tunnel]]\nlocal = 0", 3, "tunnel.remote", "is missing"),
    ("[[tunnel]]\nlocal = 1\nremote = 0", 5, "tunnel.remote", "must be from 1 to 65535"),
    ("[[tunnel]]\nlocal = 7\n[[tunnel]]\nlocal = 7", 6, "tunnel.local", "port 7 has a tunnel already"),
]


@pytest.mark.parametrize(("text", "line", "key", "said"), WRONG)
def test_a_mistake_is_named_by_file_line_and_key(
    world: World, text: str, line: int, key: str, said: str
) -> None:
    (problem,) = world.problems(LOCAL + text + "\n")
    assert problem.startswith(f"devsync.toml:{line}: {key}: "), problem
    assert said in problem


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a = \n", 1, "not valid TOML"),
        ("[machine]\nprovider = 'local'\nprovider = 'ssh'\n", 3, "overwrite a value: provider = 'ssh'"),
        ("[ssh]\n\n[ssh]\n", 3, "twice"),
        ("x = '''\n\n", 2, "not valid TOML"),
        ("[ssh", 1, "not valid TOML"),
    ],
)
def test_what_is_no_toml(world: World, text: str, line: int, said: str) -> None:
    (problem,) = world.problems(text)
    assert problem.startswith(f"devsync.toml:{line}: "), problem
    assert said in problem


@pytest.mark.parametrize("text", ["x = " + "[" * 5000 + "]" * 5000, ".".join(["x"] * 5000) + " = 1"])
def test_what_is_nested_too_deeply(world: World, text: str) -> None:
    assert world.problems(text) == ["devsync.toml:1: is nested too deeply"]


def test_what_is_no_text(world: World) -> None:
    (world.root / "devsync.toml").write_bytes(b"# one\n# \xff\n")
    with pytest.raises(Misuse, match=r"devsync\.toml:2: not valid TOML: the text is not UTF-8"):
        config.load(world.root, environ=world.environ)


def test_what_cannot_be_read(world: World) -> None:
    (world.root / "devsync.toml").mkdir()
    with pytest.raises(Misuse, match=r"devsync\.toml:1: cannot be read"):
        config.load(world.root, environ=world.environ)


def test_what_the_provider_needs(world: World) -> None:
    assert world.problems("") == [
        f"devsync.toml:1: machine.azure.{key}: is missing; the provider 'azure' needs it"
        for key in ("subscription_id", "resource_group", "vm_name")
    ]
    assert world.problems('[ssh]\nport = 1\n[machine]\nprovider = "ssh"\n') == [
        "devsync.toml:1: ssh.host: is missing; the provider 'ssh' needs it"
    ]


def test_all_mistakes_at_once_in_the_order_of_the_file(world: World) -> None:
    problems = world.problems(
        '[idel]\nafter = "1m"\n[ssh]\nport = "x"\nhost = 3\n'
        '[machine]\nprovider = "azur"\n[sync]\npath = "/"\n'
    )
    assert [problem.split(": ")[1] for problem in problems] == [
        "idel.after",
        "ssh.port",
        "ssh.host",
        "machine.provider",
        "sync.path",
    ]


def test_a_wrong_value_is_not_called_missing_as_well(world: World) -> None:
    (problem,) = world.problems('[machine]\nprovider = "ssh"\n[ssh]\nhost = ""\n')
    assert problem == "devsync.toml:4: ssh.host: is empty"


# ---------------------------------------------------------------- defaults for every project


def test_the_project_overrules_the_defaults(world: World) -> None:
    world.write_defaults(
        LOCAL + '[idle]\nafter = "1h"\nwarn = "2m"\n[[tunnel]]\nlocal = 1\n[[tunnel]]\nlocal = 2\n'
    )
    found = world.load('[idle]\nafter = "2h"\n[[tunnel]]\nlocal = 3\n')
    assert found.machine.provider == "local"
    assert (found.idle.after, found.idle.warn) == (7200, 120)
    assert found.tunnels == (TunnelConfig(3, 3),)
    assert len(world.load("").tunnels) == 2
    assert world.load("tunnel = []").tunnels == ()


def test_mistakes_in_both_files(world: World) -> None:
    path = world.write_defaults('[idle]\n\nchek = "1s"\n[sync]\npath = "~/x"\n[project]\nname = "x"\n')
    assert world.problems(LOCAL + "[ssh]\nport = 0\n") == [
        f"{path}:3: idle.chek: unknown key, did you mean 'idle.check'?",
        f"{path}:5: sync.path: belongs to one project, and cannot be a default for every project",
        f"{path}:7: project.name: belongs to one project, and cannot be a default for every project",
        "devsync.toml:4: ssh.port: must be from 1 to 65535, not 0",
    ]


def test_a_mistake_between_the_files_is_named_where_it_stands(world: World) -> None:
    path = world.write_defaults('[idle]\nwarn = "10m"\n')
    (problem,) = world.problems(LOCAL + '[idle]\nafter = "5m"\n')
    assert problem == f"{path}:2: idle.warn: 10m is longer than idle.after, 5m"


def test_syntax_errors_of_both_files(world: World) -> None:
    path = world.write_defaults("a =")
    assert [problem.split(": ")[0] for problem in world.problems("\nb =")] == [f"{path}:1", "devsync.toml:2"]


def test_defaults_that_cannot_be_read(world: World) -> None:
    user_file(world.environ).mkdir(parents=True)
    (problem,) = world.problems(LOCAL)
    assert problem == f"{user_file(world.environ)}:1: cannot be read: Is a directory"


def test_xdg_config_home(world: World, tmp_path: Path) -> None:
    world.environ["XDG_CONFIG_HOME"] = str(tmp_path / "elsewhere")
    assert user_file(world.environ) == tmp_path / "elsewhere/devsync/config.toml"
    world.write_defaults(LOCAL)
    assert world.load("").machine.provider == "local"
    world.environ["XDG_CONFIG_HOME"] = "relative, so not to be heeded"
    assert user_file(world.environ) == world.home / ".config/devsync/config.toml"


# ---------------------------------------------------------------- finding the project


def test_the_nearest_folder_above(world: World) -> None:
    world.write(LOCAL)
    below = world.root / "a" / "b"
    below.mkdir(parents=True)
    assert folders.find_project(below) == world.root
    (world.root / "a/devsync.toml").write_text("")
    assert folders.find_project(below) == world.root / "a"


def test_no_project(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match=r"no devsync\.toml") as caught:
        folders.find_project(tmp_path)
    assert "devsync init" in caught.value.hint


# ---------------------------------------------------------------- the example and the documentation


def test_the_example_shows_every_setting_and_nothing_else(world: World) -> None:
    import tomllib

    text = (TOP / "config.example.toml").read_text()
    whole = re.sub(r"^# (?=[a-z_]+ = )", "", text, flags=re.MULTILINE)
    document = tomllib.loads(whole)
    shown: dict[str, object] = {}
    for table, members in document.items():
        for name, value in (members[0] if isinstance(members, list) else members).items():
            if isinstance(value, dict):
                shown |= {f"{table}.{name}.{one}": what for one, what in value.items()}
            else:
                shown[f"{table}.{name}"] = value
    assert shown == {
        key: one.example if one.default is None else one.default for key, one in SETTINGS.items()
    }
    (world.home / ".ssh/id_ed25519").write_text("k")
    found = world.load(text)
    assert found.name == "my-model"
    assert found.idle == IdleConfig()


def test_every_setting_is_documented_with_its_kind_and_default() -> None:
    from devsync.settings.example import written

    page = (TOP / "docs/configuration.md").read_text()
    rows = dict(re.findall(r"^\| `([a-z_.]+)` \| (.*) \|$", page, flags=re.MULTILINE))
    assert {key for key in rows if "." in key} == set(SETTINGS)
    for key, one in SETTINGS.items():
        default = "" if one.default is None else f"`{written(one.default)}`"
        assert rows[key].startswith(f"{one.kind.name} | {default} | "), key


def test_the_example_in_the_documentation_is_right(world: World) -> None:
    page = (TOP / "docs/configuration.md").read_text()
    (example,) = re.findall(r"```toml\n(.*?)```", page, flags=re.DOTALL)
    assert world.load(example).ssh.user == "ada"
