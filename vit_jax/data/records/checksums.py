"""The checksums of TFRecord files: CRC32C, rotated and offset ("masked")."""

import struct

import google_crc32c

HEADER, FOOTER = 12, 4
_checksum_at = struct.Struct('<I').unpack_from


def verified(raw: bytes) -> bytes | None:
  """The data of a record, from its length to its last checksum; None: damaged."""
  body = raw[HEADER:-FOOTER]
  if len(raw) < HEADER + FOOTER:
    return None
  if _masked(raw[:8]) != _checksum_at(raw, 8)[0]:
    return None
  return body if _masked(body) == _checksum_at(raw, len(raw) - FOOTER)[0] else None


def _masked(data: bytes) -> int:
  crc = google_crc32c.value(data)
  return (((crc >> 15) | (crc << 17)) + 0xa282ead8) & 0xffffffff
