"""Shell scripts that run on the workers of a TPU slice, over ssh.

A job lives in ~/vit_jax/NAME: its code, its environment, the log of its process, the
process id, and the exit status once it has ended.
"""

from collections.abc import Iterable

from launch import shell
from launch.workload import Workload

# Where `pip install jax[tpu]` finds libtpu, as JAX's installation guide says.
LIBTPU = 'https://storage.googleapis.com/jax-releases/libtpu_releases.html'

# Before what `status` prints, since ssh may print more.
MARK = 'vit_jax job:'


def archive_name(name: str) -> str:
  """The file of the code, in the workers' home folder."""
  return f'vit_jax-{name}.tar.gz'


def install(name: str, python: str, setup: str = '') -> str:
  """Unpacks the code and makes its environment.

  Args:
    name: of the job.
    python: version; the images of TPU VMs have an older one than the library needs.
    setup: a shell command to run first, such as one that mounts a disk.
  """
  return '\n'.join([
      'set -e',
      *([f'bash -c {shell.quote(setup)}'] if setup else []),
      f'mkdir -p ~/vit_jax/{name}',
      f'cd ~/vit_jax/{name}',
      'rm -rf code',
      'mkdir code',
      f'tar -xzf ~/{archive_name(name)} -C code',
      'python3 -m pip install --quiet --user uv',
      f'test -x venv/bin/python || python3 -m uv venv --python={shell.quote(python)}'
      ' venv',
      'python3 -m uv pip install --quiet --python=venv/bin/python '
      f"--find-links={LIBTPU} './code[tpu]'"])


def start(name: str, workload: Workload, more: Iterable[str]) -> str:
  """Starts the job's command detached from ssh; an older start of it is ended.

  Args:
    name: of the job on this resource.
    workload: what to run.
    more: words after those of the workload.
  """
  words = ['../venv/bin/python', '-m', 'vit_jax', *workload.words(), *more]
  command = shell.with_environment(workload.environment, words)
  # Renamed, so that nobody reads half a status.
  watched = f'{command}\necho $? > ../status.new\nmv ../status.new ../status'
  return '\n'.join([
      'set -e',
      f'cd ~/vit_jax/{name}/code',
      'if test -f ../pid && kill -TERM -- "-$(cat ../pid)" 2> /dev/null; then',
      '  for i in $(seq 60); do',
      '    kill -0 -- "-$(cat ../pid)" 2> /dev/null || break',
      '    sleep 1',
      '  done',
      '  kill -KILL -- "-$(cat ../pid)" 2> /dev/null || true',
      'fi',
      'rm -f ../status',
      f'setsid nohup bash -c {shell.quote(watched)} >> ../log 2>&1 < /dev/null &',
      'echo $! > ../pid'])


def status(name: str) -> str:
  """Prints MARK and one of: absent, running, gone, or the exit status."""
  return '\n'.join([
      f'cd ~/vit_jax/{name} 2> /dev/null || {{ echo {MARK} absent; exit 0; }}',
      f'if test -f status; then echo {MARK} "$(cat status)"',
      f'elif ! test -f pid; then echo {MARK} absent',
      f'elif kill -0 "$(cat pid)" 2> /dev/null; then echo {MARK} running',
      # Rebooted: Cloud TPU's maintenance ends processes and restarts the machine.
      f'else echo {MARK} gone; fi'])


def logs(name: str, lines: int) -> str:
  return f'tail -n {lines} ~/vit_jax/{name}/log'
