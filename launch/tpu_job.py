"""One job on one queued resource, brought step by step to its end.

All that is known is asked from gcloud, nothing is kept here: the same command after an
interruption goes on where things stand.
"""

import collections
import subprocess
import time
from collections.abc import Sequence

from launch import tpu_worker
from launch.queued_resource import QueuedResource
from vit_jax.runtime.errors import UserError
from vit_jax.runtime.stopping import RETRIED

# Seconds for which calls of one kind may fail in a row: a slice that reboots, or this
# machine's network, is out of reach for a while, and the slice costs money meanwhile.
_MAX_OUT_OF_REACH = 6 * 3600.0
# Polls that are left out between two, at most, after many failed ones.
_MOST_LEFT_OUT = 9
# Failed tries to start, each of which may take minutes: workers that are booting.
_MAX_FAILED_STARTS = 5


_clock = time.monotonic


class TpuJob:
  """A control loop: look how it stands, do the next thing.

  Args:
    resource: the slices.
    archive: file of the code on this machine.
    install_script: for all workers, before every start.
    start_script: for all workers.
    restarts: how often the job may be started again.
  """

  def __init__(self, resource: QueuedResource, archive: str, install_script: str,
               start_script: str, restarts: int) -> None:
    self.resource = resource
    self._archive = archive
    self._install_script, self._start_script = install_script, start_script
    self._restarts_left = restarts
    # The state that was told last.
    self._last = ''
    # Failed calls in a row: of `describe`, of the question how the job is, of starts.
    self._failures: collections.Counter[str] = collections.Counter()
    # When the first of them failed.
    self._failing_since: dict[str, float] = {}
    # What is left to do of a start.
    self._starting: list[list[str]] = []
    self._was_active = False

  def commands(self) -> list[list[str]]:
    """In the order of an undisturbed run."""
    resource = self.resource
    return [resource.create(), resource.describe(), *self._start_commands(),
            self._status_command()]

  def _start_commands(self) -> list[list[str]]:
    resource = self.resource
    return [resource.scp(self._archive, tpu_worker.archive_name(resource.name)),
            resource.ssh(self._install_script), resource.ssh(self._start_script)]

  def _status_command(self) -> list[str]:
    return self.resource.ssh(
        tpu_worker.status(self.resource.name), everywhere=False)

  def reconcile(self) -> int | None:
    """One step; the job's exit status once it has ended for good.

    Raises:
      UserError: where going on makes no sense.
    """
    state = self._state()
    if state == 'ABSENT':
      self._say('creating it')
      self._call(self.resource.create())
    elif state == 'SUSPENDED' or (state == 'FAILED' and self._was_active):
      self._say('it was preempted; deleting it, to create it again')
      self._use_restart()
      self.delete()
    elif state == 'FAILED':
      raise UserError(
          f'{self.resource.name} could not be provisioned. Why: '
          f'{" ".join(self.resource.describe()[:-1])}. Delete it with '
          '--action=delete --run, and try another zone or kind of slice.')
    elif state == 'ACTIVE':
      self._was_active = True
      return self._reconcile_job()
    elif state != self._last:
      self._say(f'is {state}')
    self._last = state
    return None

  def _reconcile_job(self) -> int | None:
    if self._starting:
      # On all workers again, since some may have started.
      self._continue_start()
      return None
    status = self._job_status()
    if status == 'absent':
      self._say('is ACTIVE; copying the code, installing and starting')
      self._starting = self._start_commands()
      self._continue_start()
    elif status in ('gone', *map(str, RETRIED)):
      self._say('the job was interrupted; starting it again')
      self._use_restart()
      # All of it: what --setup has mounted is gone from a machine that was rebooted.
      self._starting = self._start_commands()
      self._continue_start()
    elif status.isdigit():
      self._say(f'the job ended with status {status}')
      if status != '0':
        self._call(self.resource.ssh(tpu_worker.logs(self.resource.name, 30), False))
        self._say('after mending it: the same command with --action=start')
      return int(status)
    elif status != self._last:
      self._say(f'the job is {status}')
    self._last = status
    return None

  def _continue_start(self) -> None:
    """Does what is left of a start, as far as it succeeds."""
    while self._starting:
      words = self._starting[0]
      status = subprocess.run(words, check=False).returncode
      if status:
        self._failures['start'] += 1
        if self._failures['start'] >= _MAX_FAILED_STARTS:
          raise _failed(self.resource.name, words, status)
        self._say('not all workers did that; trying again')
        return
      self._starting.pop(0)
    self._failures['start'] = 0

  def start(self) -> None:
    """Copies the code, installs it and starts the job."""
    for words in self._start_commands():
      self._call(words)

  def delete(self) -> None:
    self._starting = []
    self._call(self.resource.delete())

  def _state(self) -> str:
    """Of the resource, as gcloud says it; 'ABSENT' or 'unreachable'."""
    done = subprocess.run(self.resource.describe(), capture_output=True, text=True)
    if done.returncode and 'NOT_FOUND' in done.stderr:
      self._failures['resource'] = 0
      self._failing_since.pop('resource', None)
      return 'ABSENT'
    return self._answer('resource', done, done.stdout.strip())

  def _job_status(self) -> str:
    """As `tpu_worker.status` prints it, or 'unreachable'."""
    done = subprocess.run(self._status_command(), capture_output=True, text=True)
    answers = [line.removeprefix(tpu_worker.MARK).strip()
               for line in done.stdout.splitlines()
               if line.startswith(tpu_worker.MARK)]
    return self._answer('job', done, answers[-1] if answers else '')

  def _answer(self, about: str, done: subprocess.CompletedProcess[str],
              answer: str) -> str:
    """`answer`, or 'unreachable' unless that has been so too often in a row."""
    if answer and not done.returncode:
      self._failures[about] = 0
      self._failing_since.pop(about, None)
      return answer
    since = self._failing_since.setdefault(about, _clock())
    self._failures[about] += 1
    if _clock() - since > _MAX_OUT_OF_REACH:
      raise UserError(
          f'{" ".join(done.args[:5])} failed {self._failures[about]} times in a row, '
          f'for {(_clock() - since) / 3600:.1f} hours:\n{done.stderr.strip()}\nThe '
          'slices are left as they are, and cost money; the same command goes on.')
    return 'unreachable'

  @property
  def polls_to_leave_out(self) -> int:
    """Before the next one: more, the longer the job has been out of reach."""
    failed = max(self._failures['resource'], self._failures['job'])
    return min(failed // 5, _MOST_LEFT_OUT)

  def _use_restart(self) -> None:
    if not self._restarts_left:
      raise UserError(f'{self.resource.name}: all --restarts are used up. The slices '
                      'are left as they are; the same command goes on.')
    self._restarts_left -= 1

  def _call(self, words: Sequence[str]) -> None:
    status = subprocess.run(words, check=False).returncode
    if status:
      raise _failed(self.resource.name, words, status)

  def _say(self, text: str) -> None:
    print(f'{self.resource.name}: {text}', flush=True)


def _failed(name: str, words: Sequence[str], status: int) -> UserError:
  return UserError(f'{" ".join(words[:5])} {name} ended with status {status}; its '
                   'message is above. The same command goes on where things stand.')
