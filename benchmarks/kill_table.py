"""What becomes of runs that something happens to: the kill table of docs/faults.md.

  python benchmarks/kill_table.py --tries=5 [--only=PATTERN] [--seed=0]

Every try trains a tiny model in two real processes, does the fault at a random moment,
starts the run again where it ended, and compares all of the final training state, bit
for bit, with that of a run that nothing happened to. Prints a Markdown table; a try
that ended otherwise is printed with its reason and makes the exit status 1.
"""

import argparse
import os
import pathlib
import random
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

_ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(_ROOT), str(_ROOT / 'tests')]
os.environ.update({
    'JAX_PLATFORMS': 'cpu', 'TF_CPP_MIN_LOG_LEVEL': '3',
    'PYTHONPATH': str(_ROOT)})

import fault_runs  # noqa: E402
from absl import logging  # noqa: E402

# (folder, final state of an undisturbed run, generator, its work directory) -> outcome.
Fault = Callable[
    [pathlib.Path, dict[str, Any], random.Random, pathlib.Path], fault_runs.Outcome]

# By their names in the table.
FAULTS: dict[str, Fault] = {
    'kill -9 of process 1 while training':
        lambda f, ref, rng, run: fault_runs.killed(f, ref, rng, 1, 'training'),
    'kill -9 of process 0 while training':
        lambda f, ref, rng, run: fault_runs.killed(f, ref, rng, 0, 'training'),
    'kill -9 of process 1 during a save':
        lambda f, ref, rng, run: fault_runs.killed(f, ref, rng, 1, 'save'),
    'kill -9 of process 0 during a save':
        lambda f, ref, rng, run: fault_runs.killed(f, ref, rng, 0, 'save'),
    'SIGTERM to process 1 only':
        lambda f, ref, rng, run: fault_runs.terminated(f, ref, rng, 1),
    'SIGTERM to process 0 only':
        lambda f, ref, rng, run: fault_runs.terminated(f, ref, rng, 0),
    'newest checkpoint: one bit flipped':
        lambda f, ref, rng, run: fault_runs.damaged(f, ref, rng, 'flip', run),
    'newest checkpoint: a file cut short':
        lambda f, ref, rng, run: fault_runs.damaged(f, ref, rng, 'truncate', run),
    'newest checkpoint: a file deleted':
        lambda f, ref, rng, run: fault_runs.damaged(f, ref, rng, 'delete', run),
    'full disk for some saves':
        lambda f, ref, rng, run: fault_runs.full_disk(f, ref, rng),
    'a process that never starts':
        lambda f, ref, rng, run: fault_runs.absent(f),
}


def main() -> int:
  parser = argparse.ArgumentParser(description=(__doc__ or '').split('\n')[0])
  parser.add_argument('--tries', type=int, default=3, help='of every fault')
  parser.add_argument('--only', default='', help='regular expression of fault names')
  parser.add_argument('--seed', type=int, default=0, help='of the random moments')
  args = parser.parse_args()
  logging.set_verbosity(logging.ERROR)  # Orbax's.
  folder = pathlib.Path(tempfile.mkdtemp(prefix='vit_jax_faults_'))
  rng = random.Random(args.seed)
  rows, bad = [], 0
  try:
    reference = fault_runs.undisturbed(folder)
    for name, fault in FAULTS.items():
      if re.search(args.only, name):
        texts, good = _tries(name, fault, args.tries, folder, reference, rng)
        rows.append(f'| {name} | {args.tries} | {good} | {"; ".join(texts)} |')
        bad += args.tries - good
  finally:
    shutil.rmtree(folder, ignore_errors=True)
  print('\n| fault | tried | as promised | of which, for example |\n|---|---|---|---|')
  print('\n'.join(rows))
  return 1 if bad else 0


def _tries(name: str, fault: Fault, tries: int, folder: pathlib.Path,
           reference: dict[str, Any], rng: random.Random) -> tuple[list[str], int]:
  """(one text of a success, how many succeeded)."""
  texts, good = [], 0
  for i in range(tries):
    here = pathlib.Path(tempfile.mkdtemp(dir=folder))
    began = time.monotonic()
    try:
      outcome = fault(here, reference, rng, folder / 'undisturbed')
    except AssertionError as e:
      outcome = fault_runs.Outcome(False, str(e)[-2000:])
    except PermissionError as e:
      outcome = fault_runs.Outcome(False, f'not tried: {e}')
    seconds = time.monotonic() - began
    print(f'{name} [{i + 1}/{tries}, {seconds:.0f} s] '
          f'{"ok" if outcome.ok else "NOT OK"}: {outcome.text}', flush=True)
    good += outcome.ok
    if outcome.ok and not texts:
      texts.append(outcome.text)
    shutil.rmtree(here, ignore_errors=True)
  return texts, good


if __name__ == '__main__':
  sys.exit(main())
