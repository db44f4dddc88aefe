"""A run holds its work directory, on a disk or in a bucket; nobody else may.

The folder FOLDER/.lease has numbered files. The highest is the lease of today: it says
who holds it, or that nobody does any more. Whoever wants it creates the file of the
next number, which exactly one can do on any disk and in any store; nothing else is
asked of them, no locks and no common clocks. Every few seconds the holder changes the
version of its file and looks whether there is a higher one.

A holder counts as dead if its process is gone, which is seen on the same machine, or if
the version of its file stays the same for as long as it promised, by the clock of the
one who looks on. A holder that could give no sign of life for three quarters of that
time counts itself out, and so knows before anybody takes over.
"""

from vit_jax.runtime.lease.acquire import Surroundings, acquire
from vit_jax.runtime.lease.holder import Lease, LeaseLost
from vit_jax.runtime.lease.record import Timing

__all__ = ['Lease', 'LeaseLost', 'Surroundings', 'Timing', 'acquire']
