"What a bad input says."
import pytest

from busiseg_nb.core import BusisegError


def message(fn, *args, **kw):
    "The one line that a bad input raises"
    with pytest.raises(BusisegError) as e:
        fn(*args, **kw)
    assert '\n' not in str(e.value)
    return str(e.value)
