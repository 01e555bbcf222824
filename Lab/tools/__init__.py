"""The virtual-machine lab: what its programs share. Standard library only."""
