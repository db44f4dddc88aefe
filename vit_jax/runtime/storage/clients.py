"""Settings of the libraries that reach object stores, for us and for Orbax."""

import functools
import importlib.util
import logging
import os

# fsspec's name for a scheme, and the package that has it.
FILE_SYSTEMS = {'gs': ('gcs', 'gcsfs'), 's3': ('s3', 's3fs')}

_DEFAULTS = {
    # A request that makes no progress is given up and repeated; curl's own limits are
    # five minutes for connecting, and none at all afterwards.
    'TENSORSTORE_CURL_CONNECT_TIMEOUT_SECONDS': '20',
    'TENSORSTORE_CURL_LOW_SPEED_TIME_SECONDS': '60',
    'TENSORSTORE_CURL_LOW_SPEED_LIMIT_BYTES': '1',
}


@functools.cache
def configure() -> None:
  """Sets what the user has not set; to be called before the first use of a URL.

  Where gcsfs is installed, etils' epath, and so Orbax, uses it in place of TensorFlow,
  whose file system has no s3://, and never from a cached listing.
  """
  for name, value in _DEFAULTS.items():
    os.environ.setdefault(name, value)
  for protocol, package in FILE_SYSTEMS.values():
    if importlib.util.find_spec(package) is None:
      continue
    if 'EPATH_USE_TF' not in os.environ:
      os.environ['EPATH_USE_TF'] = '0'
      # It may have remembered the answer that was right until now.
      from etils.epath import gpath
      getattr(gpath._is_tf_installed, 'cache_clear', lambda: None)()
    from fsspec.config import conf
    conf.setdefault(protocol, {}).setdefault('use_listings_cache', False)
    # They log every error, with its traceback, before they raise it.
    logging.getLogger(package).setLevel(logging.CRITICAL)
