"""The fixtures of `image_data`."""

from image_data import (  # noqa: F401
    cifar_arrayrecord_dir,
    cifar_dir,
    folder,
    imagenet_dir,
    imagenet_shards,
)
