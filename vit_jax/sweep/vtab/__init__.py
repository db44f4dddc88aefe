"""The VTAB benchmark, https://arxiv.org/abs/1910.04867: its tasks and subsets."""
