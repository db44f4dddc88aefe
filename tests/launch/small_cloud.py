"""A small cloud around the stand-in for gcloud: workers, their programs, its calls."""

import json
import pathlib
import subprocess
import sys

# `python3` of a worker: pip and uv only note what they are asked to do; the
# environment's Python notes how it is started and then does as $STAND_IN/jobs says:
# for each start of a worker a word: an exit status, 'wait', or 'go': wait for a file.
_PYTHON3 = r'''
echo "$*" >> ~/installed
if test "$2 $3" = "uv venv"; then
  mkdir -p "$5/bin"
  cp "$STAND_IN/job-python" "$5/bin/python"
fi
'''
_JOB = r'''
import json, os, pathlib, sys, time
started = pathlib.Path(os.environ['HOME']) / 'started'
# Counted here and not at home, which is deleted with its machine.
counter = pathlib.Path(os.environ['STAND_IN'], 'starts' + started.parent.name)
index = len(counter.read_text()) if counter.exists() else 0
counter.write_text('x' * (index + 1))
with started.open('a') as f:
  f.write(json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]) + '\n')
line = pathlib.Path(os.environ['STAND_IN'], 'jobs').read_text().split()[index]
print('job says', line, flush=True)
if line == 'wait':
  time.sleep(600)
while line == 'go':
  if pathlib.Path(os.environ['STAND_IN'], 'go').exists():
    line = '0'
  time.sleep(0.02)
sys.exit(int(line))
'''


class Cloud:

  def __init__(self, folder):
    self.folder = pathlib.Path(folder)
    for name in ('bin', 'worker-bin'):
      (self.folder / name).mkdir(parents=True)
    stand_in = pathlib.Path(__file__).with_name('gcloud_stand_in.py')
    for name, text in (
        ('bin/gcloud', f'#!/bin/sh\nexec {sys.executable} -S {stand_in} "$@"\n'),
        ('worker-bin/python3', f'#!/bin/bash{_PYTHON3}'),
        ('job-python', f'#!{sys.executable} -S{_JOB}')):
      (self.folder / name).write_text(text)
      (self.folder / name).chmod(0o755)

  def delete(self):
    """Deletes the queued resource `d` and ends what runs there, if it is there."""
    if (self.folder / 'exists').exists():
      subprocess.run(['gcloud', 'compute', 'tpus', 'queued-resources', 'delete', 'd',
                      '--force', '--quiet', '--zone=z'], check=True)

  def plays(self, states, jobs):
    (self.folder / 'states').write_text(states)
    (self.folder / 'jobs').write_text(jobs)

  def calls(self):
    """(subcommand, all words after it) of every call."""
    lines = (self.folder / 'calls').read_text().splitlines()
    return [(words[3], words[4:]) for words in map(json.loads, lines)]

  def commands(self):
    """Subcommands in order, repeated looks at how things stand left out."""
    names = []
    for name, words in self.calls():
      if name == 'ssh':
        script = next(w for w in words if w.startswith('--command='))
        name = next(n for n, part in (
            ('install', 'tar -xzf'), ('start', 'setsid nohup'),
            ('status', 'vit_jax job'), ('logs', 'tail -n')) if part in script)
      if name not in ('describe', 'status'):
        names.append(name)
    return names

  def started(self, home):
    return [json.loads(line) for line in
            (self.folder / 'homes' / home / 'started').read_text().splitlines()]
