"""The link: sessions, the pipelined SFTP client, tunnels. With machine/embedded it alone knows paramiko."""

import sys

# paramiko imports `invoke` for one keyword of ssh_config, `Match exec`, and is twice as heavy with it: None
# stands for "not installed", which it bears. `session.ssh_options` brings it in where the keyword is met.
sys.modules.setdefault("invoke", None)  # type: ignore[arg-type]
