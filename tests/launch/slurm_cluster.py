"""A real SLURM of two nodes on this machine, with its own keys, ports and folders."""

import contextlib
import getpass
import os
import pathlib
import shutil
import socket
import subprocess
import time

from vit_jax.runtime.ports import reserved_port

# Seconds, against hanging alone.
HANGS = 300
PROGRAMS = ('munged', 'slurmctld', 'slurmd', 'sbatch', 'srun', 'scontrol', 'squeue')

# The first node has this machine's own name, which JAX resolves to find process 0.
_CONFIG = '''
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
ProctrackType=proctrack/linuxproc
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=10
NodeName={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 RealMemory=4000
NodeName={host}-b NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 RealMemory=4000
PartitionName=cpu Nodes=ALL Default=YES MaxTime=INFINITE State=UP
'''


class Unavailable(Exception):
  """SLURM cannot be had on this machine; says why."""


class Cluster:
  """Started by `with`; `environment` is what SLURM's commands need."""

  def __init__(self, folder):
    self.folder = pathlib.Path(folder)
    self._daemons = []
    self._ports = contextlib.ExitStack()
    self.environment = {
        **os.environ, 'SLURM_CONF': str(self.folder / 'slurm.conf'),
        # Debian has the daemons where only root looks.
        'PATH': f'{os.environ["PATH"]}:/usr/sbin:/sbin'}

  def __enter__(self):
    search = self.environment['PATH']
    missing = [p for p in PROGRAMS if not shutil.which(p, path=search)]
    if missing:
      raise Unavailable(f'no {", ".join(missing)}; apt-get install slurm-wlm')
    host = socket.gethostname().split('.')[0]
    try:
      socket.gethostbyname(host)
    except OSError as e:
      raise Unavailable(f"this machine's name {host} does not resolve") from e
    try:
      self._start(host)
    except BaseException:
      self.__exit__()
      raise
    return self

  def __exit__(self, *unused):
    for daemon in reversed(self._daemons):
      daemon.terminate()
    for daemon in self._daemons:
      try:
        daemon.wait(timeout=15)
      except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()
    self._ports.close()

  def _start(self, host):
    for name in ('munge', 'state', 'spool', 'logs'):
      (self.folder / name).mkdir(mode=0o700)
    key = self.folder / 'munge' / 'key'
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    # Kept until the end: slurmctld may be late, and every daemon sets SO_REUSEADDR.
    ports = [self._ports.enter_context(reserved_port()) for _ in range(3)]
    (self.folder / 'slurm.conf').write_text(_CONFIG.format(
        host=host, folder=self.folder, user=getpass.getuser(), ports=ports))
    # --force: the folders above are not open to all, which munge would like better.
    options = {'key-file': 'key', 'socket': 'socket', 'pid-file': 'pid',
               'log-file': 'log', 'seed-file': 'seed'}
    self._daemon('munged', '--force', '--foreground', *(
        f'--{option}={self.folder}/munge/{name}' for option, name in options.items()))
    self._wait(lambda: (self.folder / 'munge' / 'socket').exists(), 'munged')
    self._daemon('slurmctld', '-D')
    for node in (host, f'{host}-b'):
      self._daemon('slurmd', '-D', '-N', node)
    self._wait(lambda: self.command(
        'sinfo', '--noheader', '--format=%T %D', check=False) == 'idle 2', 'slurmd')

  def _daemon(self, *words):
    name = f'{words[0]}-{len(self._daemons)}'
    with open(self.folder / 'logs' / name, 'w') as log:
      self._daemons.append(subprocess.Popen(
          words, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
          start_new_session=True))

  def _wait(self, ready, what):
    deadline = time.monotonic() + HANGS
    while not ready():
      dead = any(daemon.poll() is not None for daemon in self._daemons)
      if dead or time.monotonic() > deadline:
        logs = '\n'.join(f'{p.name}: {p.read_text()[-1000:]}'
                         for p in sorted((self.folder / 'logs').iterdir()))
        raise Unavailable(f'{what} did not come up:\n{logs}')
      time.sleep(0.1)

  def command(self, *words, check=True) -> str:
    """What one of SLURM's commands prints."""
    done = subprocess.run(
        words, env=self.environment, capture_output=True, text=True, timeout=60)
    if check and done.returncode:
      raise AssertionError(f'{words}: {done.returncode}\n{done.stdout}{done.stderr}')
    return done.stdout.strip()

  def state(self, job) -> dict:
    """Fields of `scontrol show job`, such as JobState and Restarts."""
    text = self.command('scontrol', '--oneliner', 'show', 'job', str(job))
    return dict(word.split('=', 1) for word in text.split() if '=' in word)

  def start_requeued(self, job):
    """Waits until a job is requeued, and spares it SLURM's wait of two minutes."""
    def waits():
      state = self.state(job)
      return (state['JobState'], state['Reason']) == ('PENDING', 'BeginTime')
    self.wait_until(waits, 'the requeue')
    assert self.state(job)['Restarts'] == '1'
    # The credentials of the first start are revoked to the second: what starts within
    # the same one would be refused.
    time.sleep(2)
    self.command('scontrol', 'update', f'jobid={job}', 'starttime=now')

  def wait_until(self, condition, what):
    deadline = time.monotonic() + HANGS
    while not condition():
      assert time.monotonic() < deadline, f'{what} did not happen in {HANGS} s'
      time.sleep(0.1)
