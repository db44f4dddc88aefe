"""Records of files on disks: where they lie, and reads that verify them."""
