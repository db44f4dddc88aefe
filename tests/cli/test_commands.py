"""Whole commands in processes of their own: stop, kill, resume, several hosts."""

import json
import pathlib
import re
import shutil
import signal
import time

import pytest
import runs

pytestmark = pytest.mark.slow

LONG = ('--config.total_steps=2000', '--config.checkpoint.every=20',
        '--config.log_every=10', '--config.eval_every=0')


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """(config file, workdir) of a finished run on one device, with its output."""
  folder = tmp_path_factory.mktemp('commands')
  config, workdir = runs.write_config(folder), str(folder / 'run')
  out, err = runs.finish(runs.command(
      'train', f'--config={config}', f'--workdir={workdir}',
      '--config.profile.start=1', '--config.profile.steps=2'))
  return config, workdir, out, err


def test_profile_leaves_a_trace(run):
  assert list(pathlib.Path(run[1], 'profile').rglob('*.xplane.pb'))


def test_train_tells_its_plan_its_progress_and_its_result(run):
  _, workdir, out, err = run
  assert err == ''
  for text in ('batch  16 = 1 devices x 16 images', '1,438 examples, 10 classes',
               '10 steps = 0.1 epochs of 89.9 steps', 'parameters',
               'FLOPs per image', 'step 10/10', 'test/accuracy',
               f'{workdir}/checkpoints/10', 'Finished 10 steps'):
    assert text in out, f'{text!r} is not in\n{out}'


def test_eval_repeats_the_result_of_the_run(run):
  _, workdir, _, _ = run
  out, err = runs.finish(runs.command('eval', f'--workdir={workdir}', '--json'))
  assert err == ''
  measured = json.loads(out)
  last = runs.metrics(workdir)[-1]
  assert measured['accuracy'] == pytest.approx(last['test/accuracy'], abs=1e-6)
  assert measured['split'] == 'test[:50]' and measured['step'] == 10


def test_predict_names_classes(run, tmp_path):
  from PIL import Image
  _, workdir, _, _ = run
  path = str(tmp_path / 'some digit.png')
  Image.new('L', (20, 30), 128).save(path)
  out, err = runs.finish(runs.command(
      'predict', f'--workdir={workdir}', '--json', '--top_k=10', path))
  assert err == ''
  row = json.loads(out)
  assert row['image'] == path
  assert sorted(c['name'] for c in row['classes']) == [str(d) for d in range(10)]
  probabilities = [c['probability'] for c in row['classes']]
  assert sum(probabilities) == pytest.approx(1, abs=1e-6)
  assert probabilities == sorted(probabilities, reverse=True)
  text, _ = runs.finish(runs.command(
      'predict', f'--workdir={workdir}', '--top_k=2', path))
  assert len(re.findall(r'^ +[\d.]+%  \d$', text, re.MULTILINE)) == 2


@pytest.mark.parametrize('words, message', [
    (['predict', '--workdir={run}', '/nowhere.png'], '/nowhere.png'),
    (['predict', '--workdir={run}', '{config}'], 'tiny_config.py'),
    (['predict', '--workdir={run}', '--step=7', 'x.png'], 'it has 5, 10'),
    (['eval', '--workdir=/nowhere'], 'not the work directory of a run'),
    (['eval', '--workdir={run}', '--split=validation'], "validation"),
    (['train', '--config={config}', '--workdir={run}', '--config.seed=5'],
     'config.seed: 0 there, 5 here'),
])
def test_user_errors(run, words, message):
  config, workdir, _, _ = run
  words = [w.format(run=workdir, config=config) for w in words]
  out, err = runs.finish(runs.command(*words), status=1)
  assert message in err and 'Traceback' not in err
  assert err.startswith(f'vit_jax {words[0]}: error: ')


def _start_long_run(folder):
  config, workdir = runs.write_config(folder), str(folder / 'run')
  words = ('train', f'--config={config}', f'--workdir={workdir}', *LONG)
  process = runs.command(*words)
  deadline = time.monotonic() + 120
  while not _steps(workdir) or max(_steps(workdir)) < 40:
    assert process.poll() is None, process.communicate()
    assert time.monotonic() < deadline
    time.sleep(0.05)
  return process, words, workdir


def _steps(workdir):
  return [int(p.name) for p in pathlib.Path(workdir, 'checkpoints').glob('*')
          if p.name.isdigit()]


@pytest.mark.parametrize('number,status', [('SIGTERM', 75), ('SIGINT', 130)])
def test_signal_saves_and_the_status_says_why(tmp_path, number, status):
  process, words, workdir = _start_long_run(tmp_path)
  process.send_signal(signal.Signals[number])
  out, err = runs.finish(process, status)
  step = int(re.search(rf'Stopped at step (\d+) of 2000 by {number}', out)[1])
  assert max(_steps(workdir)) == step
  assert err == ''


def test_kill_loses_only_the_steps_since_the_last_checkpoint(tmp_path):
  process, words, workdir = _start_long_run(tmp_path)
  process.kill()
  process.communicate()
  saved = max(_steps(workdir))
  # Only the length changes, and a constant rate is not needed: the schedule of the
  # killed run is kept by comparing with a copy of the checkpoint it left.
  undisturbed = tmp_path / 'copy'
  shutil.copytree(workdir, undisturbed)
  for directory in (workdir, str(undisturbed)):
    words = ('train', words[1], f'--workdir={directory}', *LONG[1:],
             f'--config.total_steps={saved + 20}')
    out, _ = runs.finish(runs.command(*words))
    assert f'resuming at step {saved}' in out
    assert [r['step'] for r in runs.metrics(directory) if 'train/loss' in r] == list(
        range(10, saved + 21, 10))
  assert runs.losses(workdir) == runs.losses(undisturbed)


def test_one_device_eight_devices_and_two_processes_agree(run, tmp_path):
  config, workdir, _, _ = run
  expected, result = runs.losses(workdir), runs.metrics(workdir)[-1]
  eight, two = str(tmp_path / 'eight'), str(tmp_path / 'two')
  runs.finish(runs.command(
      'train', f'--config={config}', f'--workdir={eight}', devices=8))
  with runs.process_flags(2) as flags:
    processes = [runs.command(
        'train', f'--config={config}', f'--workdir={two}', *words, devices=4)
        for words in flags]
    outputs = [runs.finish(p)[0] for p in processes]
  assert '8 x cpu on 2 process(es)' in outputs[0]
  # Only process 0 speaks; the lines of XLA's transport library are not ours.
  assert [line for line in outputs[1].splitlines() if not line.startswith('[Gloo]')
          ] == []
  for directory in (eight, two):
    for step, loss in runs.losses(directory).items():
      assert abs(loss - expected[step]) < 1e-5
    last = runs.metrics(directory)[-1]
    assert abs(last['test/loss'] - result['test/loss']) < 1e-5
    assert last['test/accuracy'] == result['test/accuracy']
