"""Many processes that want one lease, some of which are killed; see `main`."""

import fcntl
import importlib
import json
import os
import pathlib
import random
import signal
import sys
import time

from vit_jax.runtime import lease, process_identity, storage
from vit_jax.runtime.errors import UserError


def main(folder: str, notes: str, workers: int, seconds: float, validity: float,
         machines: bool) -> None:
  """Prints counts as JSON.

  Args:
    folder: what is to be held.
    notes: a local folder for what the workers tell.
    workers: processes at any time.
    seconds: how long they go on.
    validity: of the leases.
    machines: whether each pretends to be on a machine of its own, so that nobody sees
      who has been killed.
  """
  if storage.is_url(folder):
    # Else most would be killed while they import it.
    storage.configure()
    for module in ('tensorstore', 'gcsfs'):
      importlib.import_module(module)
  rng = random.Random(5)
  end = time.monotonic() + seconds
  running = {_start(folder, notes, validity, machines) for _ in range(workers)}
  kills = 0
  while time.monotonic() < end:
    time.sleep(rng.uniform(0.05, 0.5))
    # By preference who holds the lease.
    holder = _holder(notes)
    victim = holder if holder in running and rng.random() < 0.6 else rng.choice(
        sorted(running))
    os.kill(victim, signal.SIGKILL)
    os.waitpid(victim, 0)
    kills += 1
    running.remove(victim)
    running.add(_start(folder, notes, validity, machines))
  for process in running:
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
  told = [line for path in pathlib.Path(notes).glob('*.told')
          for line in path.read_text().splitlines()]
  print(json.dumps({word: told.count(word) for word in set(told)} | {'kills': kills}))


def _start(folder: str, notes: str, validity: float, machines: bool) -> int:
  child = os.fork()
  if child:
    return child
  try:
    _work(folder, pathlib.Path(notes), validity, machines)
  finally:
    os._exit(1)


def _work(folder: str, notes: pathlib.Path, validity: float, machines: bool) -> None:
  identity = process_identity.own()
  if machines:
    identity = process_identity.ProcessIdentity(
        f'host{os.getpid()}', os.getpid(), f'kernel{os.getpid()}', '1')
  surroundings = lease.Surroundings(identity)
  timing = lease.Timing(validity, validity / 8)
  tell = (notes / f'{os.getpid()}.told').open('a')
  rng = random.Random(os.getpid())
  while True:
    try:
      held = lease.acquire(folder, timing, say=lambda text: None,
                           surroundings=surroundings)
    except UserError as e:
      # Others may hold it; nothing else may go wrong.
      print('refused' if 'is in use by' in str(e) else f'odd: {e}', file=tell,
            flush=True)
      time.sleep(rng.uniform(0, 0.05))
      continue
    with held:
      _be_alone(notes, tell, rng)


def _be_alone(notes: pathlib.Path, tell, rng: random.Random) -> None:
  """The system's own lock, which ends with its process, is the judge."""
  with (notes / 'judge').open('a') as judge:
    try:
      fcntl.flock(judge, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
      print('two at once', file=tell, flush=True)
      return
    (notes / 'holder').write_text(str(os.getpid()))
    print('held', file=tell, flush=True)
    time.sleep(rng.uniform(0, 0.1))


def _holder(notes: str) -> int:
  try:
    return int((pathlib.Path(notes) / 'holder').read_text())
  except (OSError, ValueError):
    return 0


if __name__ == '__main__':
  main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]),
       float(sys.argv[5]), sys.argv[6] == 'machines')
