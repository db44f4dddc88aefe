"""What a process needs whatever it computes: errors, files, caches, signals."""
