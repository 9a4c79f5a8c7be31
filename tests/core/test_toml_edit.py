"""Values set in a TOML file whose comments stay."""

from __future__ import annotations

import pytest

from devsync.config import SETTINGS
from devsync.settings.edit import with_values
from devsync.settings.example import render


def test_values_are_replaced_uncommented_and_added() -> None:
    before = """\
# mine
[machine.azure]
subscription_id = "old"     # whose
  resource_group = 'g # h'
# vm_name = "my-vm"          # its name

[ssh]
port = 22
"""
    after = with_values(
        before,
        {
            "machine.azure.subscription_id": "new",
            "machine.azure.resource_group": "group",
            "machine.azure.vm_name": 'a "b"',
            "machine.provider": "azure",
            "ssh.user": "ada",
        },
    )
    assert (
        after
        == """\
# mine
[machine.azure]
subscription_id = "new"     # whose
  resource_group = "group"
vm_name = "a \\"b\\""        # its name

[ssh]
user = "ada"
port = 22

[machine]
provider = "azure"
"""
    )
    assert with_values(after, {"machine.provider": "azure"}) == after


def test_an_empty_file_and_the_one_of_init() -> None:
    assert with_values("", {"a.b": 1}) == "[a]\nb = 1\n"
    whole = render(SETTINGS, {}, arrays={"tunnel"})
    after = with_values(whole, {"machine.azure.vm_name": "box"})
    assert len(after.splitlines()) == len(whole.splitlines())


@pytest.mark.parametrize("text", ['machine = {azure = {vm_name = "x"}}', 'machine.azure.vm_name = """\nx"""'])
def test_what_cannot_be_changed_line_by_line_is_left_alone(text: str) -> None:
    with pytest.raises(ValueError, match="one setting a line"):
        with_values(text, {"machine.azure.vm_name": "y"})
