"""A work directory that hosts do not share is found before the first step.

Each host would make a folder of its own under the same path, and all would wait for
each other in the first save.
"""

import secrets
import time
from collections.abc import Sequence

import jax
from etils import epath

from vit_jax.parallel import agreement, hosts
from vit_jax.parallel.agreement import Statement
from vit_jax.runtime.errors import UserError

# Network disks may remember for a minute that a folder had no such file.
TIMEOUT = 90.0
_POLL_SECONDS = 0.2


def check(workdir: epath.PathLike, timeout: float = TIMEOUT) -> None:
  """Makes sure that all processes see one folder; all of them must call it.

  Process 0 makes the folder, writes a file there, and deletes it in the end.

  Args:
    workdir: the folder or URL.
    timeout: seconds that the others look for the file.

  Raises:
    UserError: on all processes, which names those that do not see it.
  """
  if jax.process_count() == 1:
    return
  # A dot, for the work directory of a new run must look empty.
  token = secrets.token_hex(8)
  path = epath.Path(workdir) / f'.shared-{token}'
  problem = _write(path, token) if hosts.is_main() else ''
  try:
    name, problem = hosts.broadcast([path.name, problem])
    if problem:
      raise UserError(f'Cannot write to --workdir={workdir}: {problem}. Give a '
                      'directory that process 0 may write to, and all may read.')
    seen = _see(path.with_name(name), timeout)
    agreement.judge(seen, lambda said: unseen(workdir, said, timeout))
  finally:
    if hosts.is_main():
      _delete(path)


def unseen(workdir: epath.PathLike, said: Sequence[Statement], timeout: float) -> str:
  """The error that names who did not see the file; '' if all did."""
  missing = [str(s.member) for s in said if s.value]
  if not missing:
    return ''
  why = next(s.value for s in said if s.value)
  return (
      f'--workdir={workdir} is not shared: a file that process 0 ({said[0].member.host}'
      f') wrote there was not seen within {timeout:g} s by {", ".join(missing)} '
      f'({why}). Give a directory that all hosts see under this path, such as a '
      'network disk or a mounted bucket.')


def _see(path: epath.Path, timeout: float) -> str:
  """Why the file cannot be read; '' once it was."""
  expected = path.name.rpartition('-')[2]
  deadline = time.monotonic() + timeout
  while True:
    try:
      # A listing makes some network disks look again.
      list(path.parent.iterdir())
      if path.read_text() == expected:
        return ''
      reason = 'another content'
    except Exception as e:  # Every file system behind a URL has exceptions of its own.
      reason = getattr(e, 'strerror', None) or str(e) or type(e).__name__
    if time.monotonic() > deadline:
      return reason
    time.sleep(_POLL_SECONDS)


def _write(path: epath.Path, text: str) -> str:
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
  except Exception as e:
    return getattr(e, 'strerror', None) or str(e) or type(e).__name__
  return ''


def _delete(path: epath.Path) -> None:
  try:
    path.unlink()
  except Exception:
    pass  # Hidden and empty but for a few letters; nothing is wrong with the run.
