"""How two versions of a content become one: the bases that are kept, the programs that merge."""
