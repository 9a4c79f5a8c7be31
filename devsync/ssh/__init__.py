"""The link: sessions, the pipelined SFTP client, tunnels. With machine/embedded it alone knows paramiko."""
