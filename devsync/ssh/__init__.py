"""The link: sessions, the pipelined SFTP client, tunnels. Alone knows paramiko (with the embedded machine)."""
