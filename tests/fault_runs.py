"""Real processes that train together, and the faults that befall them."""

import contextlib
import dataclasses
import itertools
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import runs

from vit_jax.checkpoints import integrity, orbax_arrays

STEPS = 60
# A run that saves often, and measures nothing but its loss.
WORDS = (f'--config.total_steps={STEPS}', '--config.checkpoint.every=5',
         '--config.checkpoint.keep=3', '--config.log_every=5',
         '--config.eval_every=0', '--config.data.test_split=')
# Seconds within which survivors must have ended: fewer than the 90 that they wait for a
# process that falls silent, more than the few that they take on a busy machine.
NAMED_WITHIN = 60.0
# Against hanging alone.
_PATIENCE = 400.0
_FAILED_SAVE = re.compile(r'checkpoint of step (\d+) could not be written')
_log_numbers = itertools.count()


@dataclasses.dataclass
class Outcome:
  """What became of one try."""
  ok: bool
  text: str


class Group:
  """The processes of one `vit_jax train`, their output in files."""

  def __init__(self, folder, workdir, size=2, words=WORDS, devices=1, absent=()):
    self.workdir = pathlib.Path(workdir)
    self._open = contextlib.ExitStack()
    flags = self._open.enter_context(runs.process_flags(size))
    common = ('train', f'--config={runs.write_config(folder)}',
              f'--workdir={workdir}', *words)
    self.processes, self.logs = {}, {}
    for i in range(size):
      if i in absent:
        continue
      several = flags[i] if size > 1 else ()
      self.logs[i] = pathlib.Path(folder) / f'log{next(_log_numbers)}.{i}'
      with self.logs[i].open('w') as log:
        self.processes[i] = _start(common + several, devices, log)

  def log(self, i) -> str:
    """What process `i` has said, without the lines of XLA's transport library."""
    return re.sub(r'\[Gloo\].*\n', '', self.logs[i].read_text())

  def until(self, condition):
    """Waits until `condition()` holds while all processes run."""
    end = time.monotonic() + _PATIENCE
    while not condition():
      for i, process in self.processes.items():
        assert process.poll() is None, f'process {i} ended:\n{self.log(i)}'
      assert time.monotonic() < end, f'waited in vain:\n{self.log(0)}'
      time.sleep(0.002)

  def ends(self, within=_PATIENCE) -> dict:
    """Exit status of every process, which must end within that many seconds."""
    end = time.monotonic() + within
    try:
      return {i: p.wait(max(0.1, end - time.monotonic()))
              for i, p in self.processes.items()}
    except subprocess.TimeoutExpired as e:
      raise AssertionError('\n'.join(
          [f'not all ended within {within} s', *map(self.log, self.logs)])) from e
    finally:
      self.stop()

  def stop(self):
    for process in self.processes.values():
      if process.poll() is None:
        process.kill()
        process.wait()
    self._open.close()


def _start(words, devices, log):
  env = dict(os.environ)
  env['XLA_FLAGS'] = (f'--xla_force_host_platform_device_count={devices} '
                      '--xla_backend_optimization_level=0')
  return subprocess.Popen([sys.executable, '-m', 'vit_jax', *words], env=env,
                          stdout=log, stderr=subprocess.STDOUT)


def steps(workdir) -> list[int]:
  """Committed checkpoints, by their names."""
  folder = pathlib.Path(workdir, 'checkpoints')
  return sorted(int(p.name) for p in folder.glob('*') if p.name.isdigit())


def newest(workdir) -> int:
  """Step of the newest committed checkpoint; 0: there is none."""
  return max(steps(workdir), default=0)


def being_written(workdir) -> list:
  return list(pathlib.Path(workdir, 'checkpoints').glob('*.orbax-checkpoint-tmp*'))


def state(workdir, step=STEPS) -> dict:
  """{name: array} of everything in a checkpoint's training state."""
  return orbax_arrays.restore(pathlib.Path(workdir) / f'checkpoints/{step}/state')


def same(a: dict, b: dict) -> bool:
  """Whether two states are equal bit for bit."""
  def bits(x):
    return None if x is None else (x.dtype, x.shape, x.tobytes())
  return a.keys() == b.keys() and all(bits(a[name]) == bits(b[name]) for name in a)


def undisturbed(folder, size=2) -> dict:
  """The final state of a run that nothing happens to."""
  group = Group(folder, pathlib.Path(folder) / 'undisturbed', size)
  assert set(group.ends().values()) == {0}, group.log(0)
  return state(group.workdir)


def resumes(folder, workdir, reference, size=2, expected='') -> Outcome:
  """Starts the run again: it must end with the state of the undisturbed one."""
  before = steps(workdir)
  group = Group(folder, workdir, size)
  statuses = group.ends()
  if set(statuses.values()) != {0}:
    return Outcome(False, f'restart ended with {statuses}: {group.log(0)[-500:]}')
  if expected and not re.search(expected, group.log(0)):
    return Outcome(False, f'the restart did not say {expected!r}: {group.log(0)}')
  if not same(state(workdir), reference):
    return Outcome(False, 'other final weights than the undisturbed run')
  start = _resumed_at(group) or 'the start'
  if start == 'the start' and before:
    return Outcome(False, f'did not resume although there was {before}')
  return Outcome(True, f'resumed at {start}, weights bit-identical')


def killed(folder, reference, rng, victim, moment, size=2) -> Outcome:
  """kill -9 of one process in 'training' or during a 'save', then a restart."""
  workdir = pathlib.Path(folder) / 'run'
  after = rng.randrange(0, STEPS - 20, 5)
  return and_then(kill(folder, workdir, rng, victim, moment, after, size),
                  folder, workdir, reference, size)


def kill(folder, workdir, rng, victim, moment, after, size=2) -> Outcome:
  """kill -9 of one process some time after the checkpoint of step `after`."""
  workdir = pathlib.Path(workdir)
  before = steps(workdir)
  # In a run that goes on, after a checkpoint of its own at least.
  after = max(after, before[-1] + 1) if before else after
  group = Group(folder, workdir, size)
  group.until(lambda: newest(workdir) >= after and (workdir / 'checkpoints').exists())
  if moment == 'save':
    group.until(lambda: being_written(workdir))
  else:
    at = time.monotonic() + rng.random() * 0.5
    # Or a little earlier, before the run could end by itself.
    group.until(
        lambda: time.monotonic() >= at or newest(workdir) >= max(after, STEPS - 20))
  group.processes[victim].send_signal(signal.SIGKILL)
  at = time.monotonic()
  statuses = group.ends(NAMED_WITHIN)
  took = time.monotonic() - at
  if statuses[victim] != -signal.SIGKILL:
    return Outcome(False, f'the victim had ended with {statuses[victim]} before')
  for i in statuses.keys() - {victim}:
    log = group.log(i)
    named = f'process {victim} (' in log and 'ended without a word' in log
    if statuses[i] != 76 or not named:
      return Outcome(False, f'{i} ended with {statuses[i]}: {group.log(i)[-800:]}')
  if _resumed_at(group) != max(before, default=0):
    return Outcome(False, f'went on at {_resumed_at(group)}, there was {before}')
  where = ' (a save was unfinished)' if being_written(workdir) else ''
  return Outcome(True, f'others named it and ended in {took:.1f} s{where}')


def terminated(folder, reference, rng, victim, size=2) -> Outcome:
  """SIGTERM to one process, then a restart."""
  workdir = pathlib.Path(folder) / 'run'
  after = rng.randrange(5, STEPS - 30, 5)
  return and_then(terminate(folder, workdir, victim, after, size),
                  folder, workdir, reference, size)


def terminate(folder, workdir, victim, after, size=2) -> Outcome:
  """SIGTERM to one process after the checkpoint of step `after`."""
  before = steps(workdir)
  # In a run that goes on, after a checkpoint of its own at least.
  after = max(after, before[-1] + 1) if before else after
  group = Group(folder, workdir, size)
  group.until(lambda: newest(workdir) >= after)
  group.processes[victim].send_signal(signal.SIGTERM)
  statuses = group.ends()
  if set(statuses.values()) != {75}:
    return Outcome(False, f'ended with {statuses}: {group.log(0)[-800:]}')
  told = int(re.search(r'Stopped at step (\d+) of', group.log(0))[1])
  if steps(workdir)[-1] != told:
    return Outcome(False, f'stopped at {told} but saved {steps(workdir)}')
  if _resumed_at(group) != max(before, default=0):
    return Outcome(False, f'went on at {_resumed_at(group)}, there was {before}')
  return Outcome(True, f'all stopped at step {told}, status 75')


def _resumed_at(group) -> int:
  """The step at which a group says it resumed; 0: it began anew."""
  told = re.search(r'resuming at step (\d+)', group.log(0))
  return int(told[1]) if told else 0


def and_then(outcome, folder, workdir, reference, size=2) -> Outcome:
  """The `outcome` of a fault together with that of the restart."""
  if not outcome.ok:
    return outcome
  left = steps(workdir)
  expected = f'resuming at step {left[-1]}\\b' if left else ''
  again = resumes(folder, workdir, reference, size, expected)
  return Outcome(again.ok, f'{outcome.text}; {again.text}')


def damaged(folder, reference, rng, kind, finished, size=2) -> Outcome:
  """The newest checkpoint of a `finished` run is damaged, then it is started again."""
  workdir = pathlib.Path(folder) / 'run'
  shutil.copytree(finished, workdir)
  newest, before = steps(workdir)[-1], steps(workdir)[-2]
  files = sorted(p for p in (workdir / f'checkpoints/{newest}/state').rglob('*')
                 if p.is_file() and p.name != 'commit_success.txt')
  # By size, as bits flip; most bytes are in the arrays.
  path = rng.choices(files, [p.stat().st_size for p in files])[0]
  damage(path, kind, rng)
  aside = f'set aside as .*/{newest}.corrupt; going on from .*/{before} instead'
  again = resumes(folder, workdir, reference, size, aside)
  if again.ok and not (workdir / f'checkpoints/{newest}.corrupt').exists():
    return Outcome(False, 'the damaged checkpoint is gone')
  return again


def damage(path, kind, rng=random):
  """Flips a bit of a file, cuts it ('truncate') or removes it ('delete')."""
  data = bytearray(path.read_bytes())
  if kind == 'flip':
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
  elif kind == 'truncate':
    path.write_bytes(data[:rng.randrange(len(data))])
  else:
    path.unlink()


@contextlib.contextmanager
def small_disk(folder, megabytes):
  """A mounted file system of that size; PermissionError where that isn't allowed."""
  path = pathlib.Path(folder) / 'disk'
  path.mkdir()
  done = subprocess.run(
      ['mount', '-t', 'tmpfs', '-o', f'size={megabytes}m', 'tmpfs', str(path)],
      capture_output=True, text=True)
  if done.returncode:
    raise PermissionError(f'no mount here: {done.stderr.strip()}')
  try:
    yield path
  finally:
    subprocess.run(['umount', '-l', str(path)], check=True)


def full_disk(folder, reference, rng, size=2) -> Outcome:
  """The disk is full for some saves in the middle of a run, then has room again."""
  with small_disk(folder, 8) as disk:
    workdir, ballast = disk / 'run', disk / 'ballast'
    group = Group(folder, workdir, size)
    after = rng.randrange(5, STEPS - 30, 5)
    group.until(lambda: newest(workdir) >= after)
    # Filled again and again: removing an old checkpoint makes room for one more.
    def failed():
      _fill(ballast)
      return _failed_saves(group)
    group.until(failed)
    left = steps(workdir)
    problem = integrity.damage(
        workdir / f'checkpoints/{left[-1]}/state') if left else 'no checkpoint was left'
    ballast.unlink()
    statuses = group.ends()
    lost = len(_failed_saves(group))
    if set(statuses.values()) != {0}:
      return Outcome(False, f'ended with {statuses}: {group.log(0)[-800:]}')
    if problem:
      return Outcome(False, f'when a save had failed: {problem}')
    if not same(state(workdir), reference):
      return Outcome(False, 'other final weights than the undisturbed run')
    return Outcome(True, f'{lost} save(s) reported as failed, {left[-1]} kept whole, '
                   'run finished with bit-identical weights')


def _failed_saves(group) -> set:
  """Steps whose checkpoints any of the processes reported as failed."""
  return {step for i in group.logs for step in _FAILED_SAVE.findall(group.log(i))}


def _fill(ballast):
  """Fills what is free on the disk."""
  with ballast.open('ab', buffering=0) as file, contextlib.suppress(OSError):
    while True:
      file.write(bytes(1 << 12))


def absent(folder, size=3, missing=1, timeout=30) -> Outcome:
  """One process never starts."""
  group = Group(folder, pathlib.Path(folder) / 'run', size,
                (*WORDS, f'--start_timeout={timeout}'), absent=(missing,))
  began = time.monotonic()
  statuses = group.ends()
  took = time.monotonic() - began
  for i, status in statuses.items():
    if status != 76 or f'Missing: process {missing}.' not in group.log(i):
      return Outcome(False, f'{i} ended with {status}: {group.log(i)[-800:]}')
  return Outcome(True, f'all others named it after {timeout} s of waiting '
                 f'({took:.0f} s from their start)')
