"""Where code runs: an Azure VM, a host that is simply there, the embedded machine."""
