"""Wall time of a sweep of 12 cells against 12 separate runs of `vit_jax train`.

    python benchmarks/sweep.py [--config.total_steps=60]

The sweep of configs/digits_sweep.py runs first, in one process. Then each of its cells
runs again as a process of its own, with the settings that the cell had. Both sides
begin without compiled programs, and the separate runs keep theirs between processes as
users' runs do. The same results come out of both, which is checked.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

_ROOT = pathlib.Path(__file__).parent.parent


def main() -> None:
  overrides = sys.argv[1:]
  with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    # Preparing the digits is nobody's share.
    _vit_jax(folder, 'warm_up', 'train', f'--config={_ROOT}/configs/digits.py',
             f'--workdir={folder}/warm_up', '--config.total_steps=1',
             '--config.eval_every=0', '--config.checkpoint.best_metric=',
             '--config.schedule.warmup_steps=0')
    sweep = _vit_jax(
        folder, 'sweep', 'sweep', f'--config={_ROOT}/configs/digits_sweep.py',
        f'--workdir={folder}/sweep', *overrides)
    cells = sorted((folder / 'sweep' / 'cells').iterdir())
    separate = []
    for cell in cells:
      config = folder / f'{cell.name}.py'
      config.write_text(
          'import json\ndef get_config():\n'
          f'  return json.load(open({str(cell / "config.json")!r}))\n')
      separate.append(_vit_jax(
          folder, 'separate', 'train', f'--config={config}',
          f'--workdir={folder}/separate/{cell.name}'))
      _compare(cell, folder / 'separate' / cell.name)
  print(f'{len(cells)} cells of {_steps(overrides)} steps on {os.cpu_count()} cores')
  print(f'one sweep          {sweep:7.1f} s')
  print(f'separate processes {sum(separate):7.1f} s '
        f'(the first {separate[0]:.1f} s, the others {min(separate[1:]):.1f} to '
        f'{max(separate[1:]):.1f} s)')
  print(f'ratio              {sum(separate) / sweep:7.2f}')


def _vit_jax(folder: pathlib.Path, cache: str, *words: str) -> float:
  """Seconds that a command takes, its start included."""
  env = {**os.environ, 'JAX_PLATFORMS': os.environ.get('JAX_PLATFORMS', 'cpu'),
         'JAX_COMPILATION_CACHE_DIR': str(folder / 'programs' / cache),
         'TFDS_DATA_DIR': str(folder / 'tfds'), 'PYTHONPATH': str(_ROOT)}
  began = time.monotonic()
  done = subprocess.run([sys.executable, '-m', 'vit_jax', *words], env=env, text=True,
                        capture_output=True, check=False)
  seconds = time.monotonic() - began
  if done.returncode:
    raise SystemExit(f'{" ".join(words)}\n{done.stdout}\n{done.stderr}')
  return seconds


def _compare(cell: pathlib.Path, run: pathlib.Path) -> None:
  result = json.loads((cell / 'result.json').read_text())
  rows = (run / 'metrics.jsonl').read_text().splitlines()
  last = [json.loads(row) for row in rows][-1]
  for name, value in result['metrics'].items():
    if abs(last[name] - value) > 1e-6:
      raise SystemExit(f'{cell.name}: {name} is {value} in the sweep, {last[name]} '
                       'alone')


def _steps(overrides: list[str]) -> str:
  words = [w for w in overrides if w.startswith('--config.total_steps=')]
  return words[-1].split('=')[1] if words else '300'


if __name__ == '__main__':
  main()
