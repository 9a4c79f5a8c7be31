"""Files, wherever they are: the local disk, the machine through the helper, the machine by SFTP alone."""
