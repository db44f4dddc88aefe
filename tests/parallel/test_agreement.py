"""Processes that would not compute the same end with one message that says why."""

import os
import subprocess
import sys
import threading

import pytest
import runs
from test_save_barrier import HANGS, Client

from vit_jax.config.sections import Config
from vit_jax.parallel import agreement, shared_folder
from vit_jax.parallel.agreement import Statement
from vit_jax.parallel.rendezvous import Member
from vit_jax.runtime.errors import UserError
from vit_jax.training import same_run


def _exchange(facts_of_processes, absent=(), timeout=HANGS):
  """The error of every process that is there, None where there was none."""
  client, size = Client(), len(facts_of_processes)
  results = {}

  def one(i):
    try:
      agreement.exchange(
          client, 0, i, size, agreement.describe(facts_of_processes[i]),
          agreement.differences, timeout)
      results[i] = None
    except UserError as e:
      results[i] = str(e)
  threads = [threading.Thread(target=one, args=(i,), daemon=True)
             for i in range(size) if i not in absent]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join(HANGS)
    assert not thread.is_alive(), 'it hangs'
  return results


def test_the_same_facts_pass():
  facts = {'config.batch_size': 512, 'names of the classes': ('cat', 'dog') * 10_000}
  assert _exchange([facts] * 4) == dict.fromkeys(range(4))


def test_what_differs_is_named_on_all_with_its_process():
  first = {'config.batch_size': 512, 'version of jax': '0.10.2'}
  results = _exchange([first, first, {**first, 'config.batch_size': 256}])
  assert len(set(results.values())) == 1
  assert 'config.batch_size: 256 on process 2 (' in results[0]
  assert '512 on process 0 (' in results[0]
  assert 'version of jax' not in results[0] and 'process 1' not in results[0]


def test_long_values_that_differ_at_their_end():
  names = [f'class {i}' for i in range(21_000)]
  results = _exchange([{'names': names}, {'names': [*names[:-1], 'another']}])
  assert 'names: ' in results[1] and len(results[1]) < 2000


def test_a_fact_that_one_process_lacks():
  assert 'a: absent on process 1' in _exchange([{'a': 1}, {}])[1]


def test_who_does_not_come_is_named():
  results = _exchange([{}] * 4, absent=(1, 3), timeout=0.2)
  assert set(results) == {0, 2}
  assert all('Process 1, 3 of 4 did not come' in text for text in results.values())


def test_settings_of_a_process_alone_may_differ():
  settings = same_run.settings(Config(log_every=7, tuned='x', keep_host_memory=True))
  assert settings == same_run.settings(Config())
  assert settings != same_run.settings(Config(ema_decay=0.9))
  assert 'version of vit_jax' in same_run.software()


def test_hosts_that_do_not_see_the_work_directory_are_named():
  said = [Statement(Member(i, f'host{i}', 7), why)
          for i, why in enumerate(['', 'No such file', '', 'No such file'])]
  text = shared_folder.unseen('/runs/a', said, 90)
  assert 'process 1 (host1, pid 7), process 3 (host3' in text and 'host2' not in text
  assert shared_folder.unseen('/runs/a', said[::2], 90) == ''


# One process of two; its words: address, number, its work directory.
_SCRIPT = '''
import sys
from vit_jax.parallel import agreement, hosts, shared_folder
address, number, own, shared = sys.argv[1], int(sys.argv[2]), *sys.argv[3:]
from vit_jax.runtime.errors import UserError
with hosts.session(hosts.ProcessGroup(address, 2, number)):
  shared_folder.check(shared)
  agreement.check_same({'a': 1})
  for check in (lambda: agreement.check_same({'a': number}),
                lambda: shared_folder.check(own, timeout=0.5)):
    try:
      check()
    except UserError as e:
      print('said', e)
'''


@pytest.mark.slow
def test_two_processes(tmp_path):
  with runs.reserved_port() as port:
    processes = [subprocess.Popen(
        [sys.executable, '-c', _SCRIPT, f'localhost:{port}', str(i),
         str(tmp_path / f'own{i}'), str(tmp_path / 'shared')],
        env=os.environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for i in range(2)]
    ends = [runs.finish(p) for p in processes]
  for out, _ in ends:
    assert 'a: 1 on process 1 (' in out
    assert 'is not shared' in out and 'not seen within 0.5 s by process 1 (' in out
  assert list((tmp_path / 'shared').iterdir()) == []
  assert list((tmp_path / 'own0').iterdir()) == []


@pytest.mark.slow
def test_training_with_other_settings_on_one_process(tmp_path):
  config = runs.write_config(tmp_path)
  with runs.process_flags(2) as flags:
    processes = [runs.command(
        'train', f'--config={config}', f'--workdir={tmp_path / "run"}', *flags[i],
        f'--config.optimizer.learning_rate=0.{i + 1}') for i in range(2)]
    ends = [runs.finish(p, status=1) for p in processes]
  for _, err in ends:
    assert 'config.optimizer.learning_rate: 0.2 on process 1 (' in err
  assert not (tmp_path / 'run').exists()
