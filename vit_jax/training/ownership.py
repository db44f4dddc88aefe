"""One run at a time has a work directory; process 0 holds it for all of them."""

import contextlib
from collections.abc import Callable, Iterator

import jax

from vit_jax.parallel import agreement, hosts
from vit_jax.runtime import lease, stopping
from vit_jax.runtime.errors import UserError


@contextlib.contextmanager
def of(workdir: str, on_lost: Callable[[], None]) -> Iterator[Callable[[], None]]:
  """While entered, `workdir` is this run's; all processes must enter it.

  It is free for others as soon as process 0 leaves, or ends in another way.

  Args:
    workdir: the folder or URL.
    on_lost: called by another thread when somebody else may have taken over.

  Yields:
    What raises LeaseLost, a UserError, in that case; to be called before anything is
    written.

  Raises:
    UserError: on all processes, if another run has it; names that one.
  """
  held, problem = None, ''
  if hosts.is_main():
    try:
      held = lease.acquire(workdir, on_lost=lambda unused_error: on_lost(),
                           say=lambda text: print(text, flush=True))
    except UserError as e:
      problem = str(e)
  with contextlib.ExitStack() as at_end:
    if held is not None:
      at_end.enter_context(held)
      at_end.enter_context(stopping.before_end(held.release))
    if jax.process_count() > 1:
      agreement.judge(problem, lambda said: said[0].value)
    elif problem:
      raise UserError(problem)
    yield held.check if held is not None else _nothing


def _nothing() -> None:
  """Other processes write only what process 0 has begun."""
