"""The rsync mover."""
