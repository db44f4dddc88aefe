"""`python -m vit_jax`: the command line."""

import sys

from vit_jax.cli.main import main

if __name__ == '__main__':
  sys.exit(main())
