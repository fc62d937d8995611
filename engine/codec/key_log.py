"""Hashes of key names one behind the other, as they come: what a set of them (key_set.py) is made from later.

Adding to a set means a place in memory at random for each name, and memory, or a file's pages, for all of them. While a
snapshot is taken nobody asks the set, so its names are only listed.
"""

try:
    import cython
except ModuleNotFoundError:
    from engine.codec import cython_shim as cython
if not cython.compiled:
    from engine.codec.key_set import NameSink

from sys import byteorder


@cython.final
@cython.cclass
class KeyLog(NameSink):
    """append: takes bytes, eight for each hash in the machine's order; it keeps all of them, or raises and keeps none."""

    def __init__(self, append) -> None:
        self.append = append

    def add_batch(self, values, count):
        """Append `count` hashes."""
        if cython.compiled:
            words: cython.p_uchar = cython.cast(cython.p_uchar, values)
            self.append(words[: count * 8])
        else:
            self.append(b"".join(value.to_bytes(8, byteorder) for value in values[:count]))
        return 0
