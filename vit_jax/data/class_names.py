"""Names of classes that TFDS only numbers, from the descriptions of the data sets."""

# (builder, label feature) -> names in the order of the numbers.
_NAMES = {
    # https://github.com/basveeling/pcam: about the central 32x32 pixels.
    ('patch_camelyon', 'label'): ('no tumour in the centre', 'tumour in the centre'),
    # https://www.kaggle.com/c/diabetic-retinopathy-detection/data
    ('diabetic_retinopathy_detection', 'label'): (
        'no retinopathy', 'mild', 'moderate', 'severe', 'proliferative'),
    # https://cs.nyu.edu/~yann/data/norb-v1.0-small
    ('smallnorb', 'label_azimuth'): tuple(f'azimuth {20 * i}°' for i in range(18)),
    ('smallnorb', 'label_elevation'): tuple(
        f'elevation {30 + 5 * i}°' for i in range(9)),
    ('smallnorb', 'label_category'): ('animal', 'human', 'plane', 'truck', 'car'),
}


def readable(builder: str, key: str, names: list[str]) -> list[str]:
  """`names`, or what is known where they are only the numbers 0, 1, ...

  Args:
    builder: the name of a TFDS builder, without configuration and version.
    key: the feature with the label.
    names: of its classes, as TFDS has them.
  """
  known = _NAMES.get((builder, key), ())
  numbers = [str(i) for i in range(len(known))]
  return list(known) if known and list(names) == numbers else list(names)
