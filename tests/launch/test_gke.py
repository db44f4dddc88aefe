"""Manifests: against a schema of the API, and read back as a cluster would."""

import copy
import json
import os
import pathlib
import subprocess
import sys

import jsonschema
import nasty
import pytest
import yaml

from launch import __main__ as main_lib
from launch import gke
from launch import workload as workload_lib
from vit_jax.runtime.errors import UserError

SCHEMA = json.loads(pathlib.Path(__file__).with_name('jobset_schema.json').read_text())
CONFIG = '--config=configs/digits.py'


def _manifest(*words, extra=()):
  args = main_lib.make_parser().parse_args(
      ['gke', CONFIG, '--workdir=/runs/d', '--image=eu.gcr.io/p/vit:1', *words])
  found = yaml.safe_load(gke.text(workload_lib.from_flags(args, extra), args))
  jsonschema.Draft202012Validator(SCHEMA).validate(found)
  return found


def _job_spec(manifest):
  if manifest['kind'] == 'Job':
    return manifest['spec']
  return manifest['spec']['replicatedJobs'][0]['template']['spec']


def _pod(manifest):
  spec = _job_spec(manifest)['template']['spec']
  return spec, spec['containers'][0]


# Hosts and chips of a host from Google's pages on TPU machine types for GKE.
@pytest.mark.parametrize('name,accelerator,topology,hosts,chips', [
    ('v4-8', 'tpu-v4-podslice', '2x2x1', 1, 4),
    ('v4-32', 'tpu-v4-podslice', '2x2x4', 4, 4),
    ('v5litepod-1', 'tpu-v5-lite-podslice', '1x1', 1, 1),
    ('v5litepod-8', 'tpu-v5-lite-podslice', '2x4', 1, 8),
    ('v5litepod-256', 'tpu-v5-lite-podslice', '16x16', 64, 4),
    ('v5p-128', 'tpu-v5p-slice', '4x4x4', 16, 4),
    ('v6e-64', 'tpu-v6e-slice', '8x8', 16, 4)])
def test_a_slice_is_as_many_pods_as_it_has_hosts(
    name, accelerator, topology, hosts, chips):
  manifest = _manifest(f'--slice={name}')
  spec = _job_spec(manifest)
  assert spec['parallelism'] == spec['completions'] == hosts
  pod, container = _pod(manifest)
  assert pod['nodeSelector'] == {
      'cloud.google.com/gke-tpu-accelerator': accelerator,
      'cloud.google.com/gke-tpu-topology': topology}
  assert container['resources']['limits'] == {'google.com/tpu': chips}
  assert ('--multihost' in container['command']) == (hosts > 1)


def test_several_slices_are_child_jobs_on_node_pools_of_their_own():
  manifest = _manifest('--slice=v5e:4x4', '--slices=3', '--name=pre')
  assert manifest['metadata']['name'] == 'pre'
  assert manifest['spec']['replicatedJobs'][0]['replicas'] == 3
  assert manifest['metadata']['annotations'] == {
      'alpha.jobset.sigs.k8s.io/exclusive-topology': 'cloud.google.com/gke-nodepool'}
  pod, container = _pod(manifest)
  assert pod['hostNetwork'] and pod['dnsPolicy'] == 'ClusterFirstWithHostNet'
  assert container['command'] == ['vit_jax', 'train', CONFIG, '--workdir=/runs/d',
                                  '--multihost']
  # Of the JobSet, so that the same manifest again changes nothing.
  assert {v['name']: v for v in container['env']}['VIT_JAX_RUN_TOKEN']['valueFrom'] == {
      'fieldRef': {'fieldPath': "metadata.labels['jobset.sigs.k8s.io/jobset-uid']"}}


def test_interruptions_restart_without_limit_and_failures_a_few_times():
  manifest = _manifest('--slice=v4-32', '--restarts=2')
  policy = manifest['spec']['failurePolicy']
  assert policy['maxRestarts'] == 2
  assert [(r['action'], r['onJobFailureReasons']) for r in policy['rules']] == [
      ('RestartJobSetAndIgnoreMaxRestarts', ['PodFailurePolicy'])]
  spec = _job_spec(manifest)
  # Any failed pod fails the child Job; the two kinds of interruption with the reason
  # that the rule above asks for.
  assert spec['backoffLimit'] == 0
  conditions, codes = spec['podFailurePolicy']['rules']
  assert conditions['onPodConditions'][0]['type'] == 'DisruptionTarget'
  assert codes['onExitCodes'] == {
      'containerName': 'vit-jax', 'operator': 'In', 'values': [75, 76]}
  assert conditions['action'] == codes['action'] == 'FailJob'


def test_options_of_the_cluster():
  manifest = _manifest(
      '--slice=v6e-64', '--spot', '--queue=tpus', '--namespace=team', '--grace=30',
      '--volume=data:/data', '--bucket=my-runs:/runs', '--service-account=writer',
      '--env=TFDS_DATA_DIR=/data')
  assert manifest['metadata']['labels'] == {'kueue.x-k8s.io/queue-name': 'tpus'}
  assert manifest['metadata']['namespace'] == 'team'
  pod, container = _pod(manifest)
  assert pod['nodeSelector']['cloud.google.com/gke-spot'] == 'true'
  assert pod['tolerations'][0]['key'] == 'cloud.google.com/gke-spot'
  assert pod['terminationGracePeriodSeconds'] == 30
  assert pod['serviceAccountName'] == 'writer'
  assert {v['name']: v for v in pod['volumes']} == {
      'volume-0': {'name': 'volume-0', 'persistentVolumeClaim': {'claimName': 'data'}},
      'bucket-1': {'name': 'bucket-1', 'csi': {
          'driver': 'gcsfuse.csi.storage.gke.io',
          'volumeAttributes': {
              'bucketName': 'my-runs', 'hostNetworkPodKSA': 'true'}}}}
  assert {m['name']: m['mountPath'] for m in container['volumeMounts']} == {
      'volume-0': '/data', 'bucket-1': '/runs'}
  assert _job_spec(manifest)['template']['metadata']['annotations'] == {
      'gke-gcsfuse/volumes': 'true'}
  assert {'name': 'TFDS_DATA_DIR', 'value': '/data'} in container['env']


def _expand(text, variables):
  """Kubernetes' replacement of $(NAME); unknown names and other $ stay."""
  out, i = '', 0
  while i < len(text):
    if text[i] != '$' or i + 1 == len(text):
      out, i = out + text[i], i + 1
    elif text[i + 1] == '$':
      out, i = out + '$', i + 2
    elif text[i + 1] == '(' and ')' in text[i:]:
      name = text[i + 2:text.index(')', i)]
      out += variables.get(name, f'$({name})')
      i = text.index(')', i) + 1
    else:
      out, i = out + text[i:i + 2], i + 2
  return out


@pytest.mark.parametrize('sweep', [0, 3])
def test_words_reach_the_container_as_they_were(sweep, tmp_path):
  values = [*nasty.VALUES, '$(V)', '$$(V)', '$$$', '$']
  extra = [f'--config.data.dir={value}' for value in values]
  manifest = _manifest('--slice=v4-8', f'--sweep={sweep}', '--env=V=a $(V) b',
                       extra=extra)
  _, container = _pod(manifest)
  variables = {}
  for variable in container['env']:
    variables[variable['name']] = _expand(variable['value'], variables)
  assert variables['V'] == 'a $(V) b'
  # The container runtime starts these words.
  words = [_expand(word, variables) for word in container['command']]
  program = tmp_path / 'vit_jax'
  program.write_text(f'#!{sys.executable}\nimport json, sys\n'
                     'print(json.dumps(sys.argv[1:]))')
  program.chmod(0o755)
  done = subprocess.run(
      words, capture_output=True, text=True, check=True, cwd=tmp_path,
      env={**os.environ, **variables, 'JOB_COMPLETION_INDEX': '2',
           'PATH': f'{tmp_path}:{os.environ["PATH"]}'})
  assert json.loads(done.stdout) == [
      'sweep' if sweep else 'train', CONFIG, '--workdir=/runs/d', *extra,
      *(['--shard=2/3'] if sweep else [])]
  assert [p.name for p in tmp_path.iterdir()] == ['vit_jax']


def test_a_sweep_is_an_indexed_job():
  manifest = _manifest('--slice=v5litepod-8', '--sweep=6', '--at-once=2')
  spec = manifest['spec']
  assert manifest['kind'] == 'Job' and spec['completionMode'] == 'Indexed'
  assert (spec['completions'], spec['parallelism']) == (6, 2)
  assert {rule['action'] for rule in spec['podFailurePolicy']['rules']} == {'Ignore'}
  # All indexes may fail without ending the others.
  assert spec['maxFailedIndexes'] == 6


@pytest.mark.parametrize('words,message', [
    (('--slice=v5litepod-7',), 'no slice'), (('--slice=v3-32',), 'no TPU v3'),
    (('--slice=v4-8', '--slices=2'), 'several hosts'),
    (('--slice=v4-32', '--sweep=2'), 'one process'),
    (('--slice=v4-8', '--slices=0'), 'positive'),
    (('--slice=v4-8', '--volume=data'), 'VOLUME:/PATH'),
    (('--slice=v4-8', '--bucket=b:runs'), 'BUCKET:/PATH')])
def test_what_gke_cannot_do_is_refused(words, message):
  with pytest.raises(UserError, match=message):
    _manifest(*words)


@pytest.mark.parametrize('path,value', [
    (['spec', 'failurePolicy', 'maxRestart'], 3),
    (['spec', 'failurePolicy', 'rules', 0, 'action'], 'Restart'),
    (['metadata', 'name'], 'Big_Name'),
    (['spec', 'replicatedJobs', 0, 'replicas'], '2'),
    (['spec', 'replicatedJobs', 0, 'template', 'spec', 'template', 'spec',
      'nodeSelectors'], {}),
    (['spec', 'replicatedJobs', 0, 'template', 'spec', 'podFailurePolicy', 'rules', 1,
      'onExitCodes', 'values'], ['75'])])
def test_the_schema_finds_mistakes(path, value):
  manifest = copy.deepcopy(_manifest('--slice=v4-32'))
  place = manifest
  for key in path[:-1]:
    place = place[key]
  place[path[-1]] = value
  with pytest.raises(jsonschema.ValidationError):
    jsonschema.Draft202012Validator(SCHEMA).validate(manifest)


def test_run_gives_the_printed_manifest_to_kubectl(tmp_path, monkeypatch, capsys):
  kubectl = tmp_path / 'kubectl'
  kubectl.write_text(f'''#!{sys.executable}
import json, sys
json.dump([sys.argv[1:], sys.stdin.read()], open({str(tmp_path / "got")!r}, "w"))
sys.exit(7)''')
  kubectl.chmod(0o755)
  monkeypatch.setenv('PATH', str(tmp_path), prepend=':')
  words = ['gke', CONFIG, '--workdir=/runs/d', '--slice=v4-32', '--image=i',
           '--volume=runs:/runs',
           '--context=my cluster']
  assert main_lib.main(words) == 0
  shown = capsys.readouterr().out
  assert not (tmp_path / 'got').exists()
  assert main_lib.main([*words, '--run']) == 7
  argv, text = json.loads((tmp_path / 'got').read_text())
  assert argv == ['--context=my cluster', 'apply', '-f', '-']
  assert shown == (
      f'{text}# for node pools of --machine-type=ct4p-hightpu-4t --tpu-topology=2x2x4\n'
      "# would be given to: kubectl '--context=my cluster' apply -f -\n")


def test_without_kubectl_it_says_so(tmp_path, monkeypatch, capsys):
  monkeypatch.setenv('PATH', str(tmp_path))
  assert main_lib.main(['gke', CONFIG, '--workdir=/runs/d', '--slice=v4-32',
                        '--image=i', '--volume=runs:/runs', '--run']) == 1
  assert 'no kubectl on this machine' in capsys.readouterr().err


@pytest.mark.parametrize('words,kept', [
    ((), False), (('--volume=runs:/ru',), False), (('--volume=runs:/runs',), True),
    (('--volume=a:/b', '--bucket=runs:/runs/d'), True),
    (('--volume=runs:/runs', '--workdir=runs/d'), False)])
def test_a_workdir_that_would_be_lost_with_its_pod_is_refused(
    words, kept, tmp_path, monkeypatch, capsys):
  monkeypatch.setenv('PATH', str(tmp_path))
  command = ['gke', CONFIG, '--workdir=/runs/d', '--slice=v4-32', '--image=i', *words]
  assert main_lib.main(command) == 0
  assert ('# --run would refuse: --workdir=' in capsys.readouterr().out) == (not kept)
  assert main_lib.main([*command, '--run']) == 1
  expected = 'no kubectl' if kept else 'would be lost with the pod'
  assert expected in capsys.readouterr().err


def test_a_config_is_named_as_the_image_has_it(monkeypatch, tmp_path):
  clone = workload_lib.clone()
  monkeypatch.chdir(tmp_path)
  args = main_lib.make_parser().parse_args(
      ['gke', f'--config={clone}/configs/finetune.py:pets', '--workdir=/runs/d',
       '--slice=v4-32', '--image=i'])
  found = yaml.safe_load(gke.text(workload_lib.from_flags(args, ()), args))
  assert '--config=configs/finetune.py:pets' in _pod(found)[1]['command']
