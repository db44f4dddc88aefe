"""Which process this is: flags, SLURM, MPI, clusters that JAX recognises."""

import jax
import pytest

from vit_jax.parallel import clusters, hosts
from vit_jax.runtime.errors import UserError

_VARIABLES = (
    'SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_JOB_ID', 'SLURM_STEP_NODELIST',
    'SLURM_LOCALID', 'SLURM_STEP_TASKS_PER_NODE', 'OMPI_COMM_WORLD_RANK',
    'OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_LOCAL_RANK', 'OMPI_COMM_WORLD_LOCAL_SIZE',
    'OMPI_MCA_orte_hnp_uri', 'PMI_RANK', 'PMI_SIZE', 'MV2_COMM_WORLD_RANK',
    'MV2_COMM_WORLD_SIZE', 'KUBERNETES_SERVICE_HOST', 'TPU_WORKER_HOSTNAMES',
    'TPU_WORKER_ID', 'TPU_PROCESS_ADDRESSES', 'JAX_COORDINATOR_ADDRESS',
    'JAX_COORDINATOR_PORT')


@pytest.fixture(autouse=True)
def outside_of_clusters(monkeypatch):
  for name in _VARIABLES:
    monkeypatch.delenv(name, raising=False)


def _spec(monkeypatch, group, **environment):
  for name, value in environment.items():
    monkeypatch.setenv(name, value)
  return hosts._process_spec(group)


def test_alone_unless_asked(monkeypatch):
  # SLURM's variables are also set in a plain `sbatch` script of one process.
  assert _spec(monkeypatch, hosts.ProcessGroup(), SLURM_PROCID='0', SLURM_NTASKS='4',
               SLURM_JOB_ID='7', SLURM_STEP_NODELIST='a', SLURM_LOCALID='0') is None


def test_flags(monkeypatch):
  spec = _spec(monkeypatch, hosts.ProcessGroup('h:1', 4, 2))
  assert spec == clusters.ProcessSpec('h:1', 4, 2)


@pytest.mark.parametrize('group, message', [
    (hosts.ProcessGroup(num_processes=2), 'without --coordinator_address'),
    (hosts.ProcessGroup(process_id=0), 'without --coordinator_address'),
    (hosts.ProcessGroup('h:1', 2), '--process_id -1 of --num_processes 2'),
    (hosts.ProcessGroup('h:1', 2, 2), '--process_id 2 of --num_processes 2'),
    (hosts.ProcessGroup('h', 2, 0), 'expected HOST:PORT'),
    (hosts.ProcessGroup('h:1', auto=True), 'none of their variables is set'),
    (hosts.ProcessGroup(auto=True), 'in no cluster that JAX recognises'),
    (hosts.ProcessGroup('h:1', 2, 0, start_timeout=0), '--start_timeout=0'),
])
def test_flags_that_do_not_fit(group, message):
  with pytest.raises(UserError, match=message):
    hosts.initialize(group)
  assert jax.process_count() == 1


@pytest.mark.parametrize('environment', [
    {'SLURM_PROCID': '3', 'SLURM_NTASKS': '8'},
    {'OMPI_COMM_WORLD_RANK': '3', 'OMPI_COMM_WORLD_SIZE': '8'},  # Open MPI, any version
    {'PMI_RANK': '3', 'PMI_SIZE': '8'},                          # MPICH, Intel MPI
    {'MV2_COMM_WORLD_RANK': '3', 'MV2_COMM_WORLD_SIZE': '8'},    # MVAPICH
])
def test_address_from_the_flag_and_the_rest_from_the_launcher(
    monkeypatch, environment):
  spec = _spec(monkeypatch, hosts.ProcessGroup('h:1', auto=True), **environment)
  assert spec == clusters.ProcessSpec('h:1', 8, 3)


def test_mpirun_inside_of_a_slurm_allocation(monkeypatch):
  # All ranks have the variables of the batch script.
  slurm = {'SLURM_PROCID': '0', 'SLURM_NTASKS': '2', 'SLURM_LOCALID': '0',
           'SLURM_STEP_TASKS_PER_NODE': '1'}
  for rank in range(2):
    spec = _spec(monkeypatch, hosts.ProcessGroup('h:1', auto=True), **slurm,
                 OMPI_COMM_WORLD_RANK=str(rank), OMPI_COMM_WORLD_SIZE='2',
                 OMPI_COMM_WORLD_LOCAL_RANK=str(rank), OMPI_COMM_WORLD_LOCAL_SIZE='2')
    assert spec == clusters.ProcessSpec('h:1', 2, rank, (rank,))


def test_slurm_step(monkeypatch):
  # As `srun` sets them for the second of two tasks on two nodes.
  spec = _spec(
      monkeypatch, hosts.ProcessGroup(auto=True), SLURM_JOB_ID='4097',
      SLURM_STEP_NODELIST='node[07-08]', SLURM_NTASKS='2', SLURM_PROCID='1',
      SLURM_LOCALID='0', SLURM_STEP_NUM_NODES='2')
  # JAX takes a port of the ephemeral range by the job's number: 61440 + 4097 % 4096.
  assert spec == clusters.ProcessSpec('node07:61441', 2, 1)


@pytest.mark.parametrize('tasks, devices', [
    ('1', None), ('1(x2)', None), ('4', (2,)), ('4(x2)', (2,)), ('4(x2),1', (2,))])
def test_gpus_of_slurm_tasks(monkeypatch, tasks, devices):
  # A task alone on its node has all of the node's GPUs; several have one each.
  spec = _spec(monkeypatch, hosts.ProcessGroup('h:1', 4, 2), SLURM_LOCALID='2',
               SLURM_STEP_TASKS_PER_NODE=tasks)
  assert spec.local_device_ids == devices


def test_open_mpi_4(monkeypatch):
  spec = _spec(
      monkeypatch, hosts.ProcessGroup(auto=True),
      OMPI_MCA_orte_hnp_uri='1531576320.0;tcp://10.96.0.1,10.148.0.1:34911',
      OMPI_COMM_WORLD_RANK='1', OMPI_COMM_WORLD_SIZE='2',
      OMPI_COMM_WORLD_LOCAL_RANK='1', OMPI_COMM_WORLD_LOCAL_SIZE='2')
  # Job 1531576320 / 4096 = 373920, and 61440 + 373920 % 4096 = 62624.
  assert spec == clusters.ProcessSpec('10.96.0.1:62624', 2, 1, (1,))


def test_gke_tpu_job(monkeypatch):
  # JAX asks whether libtpu was installed for a Cloud TPU.
  from jax._src.clusters import cloud_tpu_cluster, cluster
  monkeypatch.setattr(cloud_tpu_cluster, 'running_in_cloud_tpu_vm', True)
  monkeypatch.setattr(cluster, 'running_in_cloud_tpu_vm', True)
  spec = _spec(
      monkeypatch, hosts.ProcessGroup(auto=True), TPU_WORKER_ID='1',
      TPU_WORKER_HOSTNAMES='localhost,other', MEGASCALE_NUM_SLICES='2',
      MEGASCALE_SLICE_ID='1', MEGASCALE_COORDINATOR_ADDRESS='localhost:8080')
  # Worker 1 of slice 1, with two workers a slice; JAX's own port.
  assert spec == clusters.ProcessSpec('localhost:8482', 4, 3)


def test_a_cluster_that_contradicts_itself_is_a_user_error(monkeypatch):
  with pytest.raises(UserError, match='recognised, but ValueError'):
    _spec(monkeypatch, hosts.ProcessGroup(auto=True), SLURM_JOB_ID='x',
           SLURM_STEP_NODELIST='a', SLURM_NTASKS='2', SLURM_PROCID='1',
           SLURM_LOCALID='0')
