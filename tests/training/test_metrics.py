"""metrics.jsonl, the non-finite guard, and the progress of a run."""

import io
import json

import jax.numpy as jnp
import pytest

from vit_jax.objectives.classification import Classification
from vit_jax.training import metrics
from vit_jax.training.progress import Progress, Rate, duration


def _metrics(loss, norm=1.0):
  return {'loss': jnp.float32(loss), 'grad_norm': jnp.float32(norm)}


def test_window_averages_since_the_last_call():
  window = metrics.Window()
  for step, loss in enumerate([1.0, 2.0, 6.0], start=1):
    window.add(step, _metrics(loss))
  assert window.mean() == {'loss': 3.0, 'grad_norm': 1.0}
  window.add(4, _metrics(5.0))
  assert window.mean()['loss'] == 5.0


@pytest.mark.parametrize('loss, norm', [
    (float('nan'), 1.0), (1.0, float('inf')), (float('-inf'), 1.0)])
def test_first_non_finite_step_is_named_with_its_norm(loss, norm):
  window = metrics.Window()
  window.add(7, _metrics(1.0))
  window.add(8, _metrics(loss, norm))
  window.add(9, _metrics(float('nan'), float('nan')))
  with pytest.raises(metrics.NonFiniteError, match=f'step 8.*norm {norm}'):
    window.fetch()


def test_resuming_drops_lines_after_the_checkpoint_and_cut_lines(tmp_path):
  path = tmp_path / metrics.FILE
  rows = [{'step': s, 'train/loss': 1.0 / s} for s in (10, 20, 30)]
  path.write_text(''.join(json.dumps(r) + '\n' for r in rows) + '{"step": 40, "tr')
  metrics.Writer(tmp_path, resume_step=20).close()
  assert metrics.read(tmp_path) == rows[:2]


def test_writer_appends_one_object_per_write(tmp_path):
  writer = metrics.Writer(tmp_path, resume_step=0)
  writer.write(5, {'train/loss': 0.5})
  writer.write(5, {'test/accuracy': 0.25})
  writer.close()
  assert metrics.read(tmp_path) == [
      {'step': 5, 'train/loss': 0.5}, {'step': 5, 'test/accuracy': 0.25}]


def test_tensorboard_holds_the_same_numbers(tmp_path):
  from tensorboard.backend.event_processing import event_accumulator
  from tensorboard.util import tensor_util
  writer = metrics.Writer(tmp_path, resume_step=0)
  for step in (1, 2):
    writer.write(step, {'train/loss': 0.5 * step})
  writer.close()
  events = event_accumulator.EventAccumulator(str(tmp_path)).Reload()
  tensors = events.Tensors('train/loss')
  assert [t.step for t in tensors] == [1, 2]
  values = [float(tensor_util.make_ndarray(t.tensor_proto)) for t in tensors]
  assert values == [0.5, 1.0]


class _Terminal(io.StringIO):
  def isatty(self):
    return True


@pytest.mark.parametrize('stream, live', [(io.StringIO(), False), (_Terminal(), True)])
def test_progress_is_plain_lines_unless_on_a_terminal(stream, live):
  progress = Progress(100, 32, Classification.shown, stream=stream)
  progress.step(10)
  rate = progress.log(10, {'loss': 1.5, 'accuracy': 0.25})
  progress.say('done')
  text = stream.getvalue()
  assert rate > 0
  assert ' 10/100' in text and 'loss 1.5000' in text and 'accuracy 0.2500' in text
  assert ('\r' in text) == live
  assert text.endswith('done\n')


def test_silent_progress_prints_nothing():
  stream = io.StringIO()
  progress = Progress(
      100, 32, Classification.shown, silent=True, stream=stream)
  progress.log(10, {'loss': 1.5, 'accuracy': 0.25})
  progress.say('done')
  assert stream.getvalue() == ''


def test_rate_leaves_out_pauses(monkeypatch):
  now = [0.0]
  monkeypatch.setattr('vit_jax.training.progress.time.monotonic', lambda: now[0])
  rate = Rate()
  for _ in range(10):
    rate.step()
  now[0] = 2.0
  rate.pause()
  now[0] = 50.0
  rate.resume()
  now[0] = 53.0
  assert rate.restart() == 2.0


@pytest.mark.parametrize('seconds, text', [
    (4.6, '0:05'), (754, '12:34'), (3723, '1:02:03')])
def test_duration(seconds, text):
  assert duration(seconds) == text
