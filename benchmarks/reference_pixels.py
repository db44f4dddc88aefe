"""Makes the golden cases of pixel statistics by running transformers and timm.

In an environment of its own, with torch, torchvision, transformers and timm:

  python benchmarks/reference_pixels.py tests/golden

and, beside the folder, `checkpoints/files/raw_and_averaged.pth.tar`, as timm's training
script saves a model and its average.

Each case is what the library itself saves of a tiny random model, an image, and the
logits after the library's own preprocessing of the image.
"""

import json
import pathlib
import sys

import numpy as np
import torch

# PyTorch's CPU wheel lacks operators that torchvision asks for when it is imported.
_LIBRARY = torch.library.Library('torchvision', 'DEF')
for _name in ('nms', 'qnms'):
  _LIBRARY.define(f'{_name}(Tensor dets, Tensor scores, float threshold) -> Tensor')

import timm  # noqa: E402
import timm.models  # noqa: E402
import transformers  # noqa: E402
from PIL import Image  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from timm.data import create_transform, resolve_data_config  # noqa: E402

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_NAMES = ('cat', 'dog', 'emu')
_SIZE, _PATCH = 8, 4


def main(folder: str) -> None:
  top = pathlib.Path(folder)
  pixels = np.random.default_rng(0).integers(0, 256, (_SIZE, _SIZE, 3), np.uint8)
  image = Image.fromarray(pixels)
  for case, make in (('hf_pixels', _hugging_face), ('timm_pixels', _timm)):
    torch.manual_seed(0)
    source, logits = make(top / case, image)
    np.savez(top / case / 'io.npz', logits=logits,
             image=(pixels[None] / 127.5 - 1).astype(np.float32))
    (top / case / 'meta.json').write_text(json.dumps(
        {'source': source, 'layout': 'image in io.npz is NHWC in [-1, 1]; the model '
         "was fed the library's own preprocessing of its pixels"}, indent=1) + '\n')
  raw = load_file(top / 'timm_pixels' / 'model.safetensors')
  torch.save({'epoch': 3, 'arch': 'vit', 'state_dict': raw,
              'state_dict_ema': {name: x + 1 for name, x in raw.items()}},
             top.parent / 'checkpoints' / 'files' / 'raw_and_averaged.pth.tar')


def _hugging_face(folder: pathlib.Path, image: Image.Image) -> tuple[str, np.ndarray]:
  model = transformers.ViTForImageClassification(transformers.ViTConfig(
      hidden_size=24, num_hidden_layers=1, num_attention_heads=3, intermediate_size=32,
      image_size=_SIZE, patch_size=_PATCH, id2label=dict(enumerate(_NAMES)),
      label2id={name: i for i, name in enumerate(_NAMES)})).eval()
  _spread(model)
  processor = transformers.ViTImageProcessor(
      size={'height': _SIZE, 'width': _SIZE}, image_mean=_MEAN, image_std=_STD)
  model.save_pretrained(folder)
  processor.save_pretrained(folder)
  inputs = processor(image, return_tensors='pt')
  return (f'transformers {transformers.__version__}',
          model(**inputs).logits.detach().numpy())


def _timm(folder: pathlib.Path, image: Image.Image) -> tuple[str, np.ndarray]:
  args = {'patch_size': _PATCH, 'embed_dim': 24, 'depth': 1, 'num_heads': 3,
          'mlp_ratio': 2, 'img_size': _SIZE}
  model = timm.create_model(
      'vit_tiny_patch16_224', num_classes=len(_NAMES), pretrained_cfg_overlay={
          'mean': _MEAN, 'std': _STD, 'crop_pct': 1.0,
          'input_size': (3, _SIZE, _SIZE)}, **args).eval()
  _spread(model)
  timm.models.save_for_hf(
      model, folder, model_config={'label_names': _NAMES}, model_args=args,
      safe_serialization=True)
  transform = create_transform(**resolve_data_config({}, model=model))
  return (f'timm {timm.__version__}',
          model(transform(image)[None]).detach().numpy())


def _spread(model: torch.nn.Module) -> None:
  """Weights so large that no part of the model is lost in rounding."""
  with torch.no_grad():
    for parameter in model.parameters():
      parameter.add_(torch.randn_like(parameter) * 0.2)


if __name__ == '__main__':
  main(*sys.argv[1:])
