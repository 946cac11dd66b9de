"Devices, threads and what a result records; several processes are in test_distributed.py."
import sys
import threading

import pytest

from busiseg_nb import machine
from busiseg_nb.core import BusisegError
from busiseg_nb.machine import (
    agreed,
    default_device,
    gather,
    has_bf16,
    is_main,
    main_first,
    processes,
    provenance,
    thread_map,
)


def test_threads_keep_the_order():
    assert thread_map(lambda x: x*x, range(50), workers=7) == [x*x for x in range(50)]
    assert thread_map(str, []) == []


def test_threads_stop_at_an_error():
    done = []

    def boom(i):
        if i == 3:
            raise KeyError(i)
        done.append(i)
        threading.Event().wait(.001)

    with pytest.raises(KeyError):
        thread_map(boom, range(1000), workers=2)
    assert len(done) < 1000


def test_a_process_alone_meets_nobody(monkeypatch):
    monkeypatch.delenv('WORLD_SIZE', raising=False)
    monkeypatch.setitem(sys.modules, 'accelerate', None)
    assert processes() == (0, 1) and is_main()
    assert gather('here') == ['here'] and main_first(divmod, 7, 2) == (3, 1)
    with pytest.raises(BusisegError, match='^a: is bad$'), agreed():
        raise BusisegError('a', 'is bad')


@pytest.mark.parametrize('flags, expected', [(['avx2'], False), (['avx2', 'amx_bf16'], True),
                                             (['avx512_bf16'], True), ([], False)])
def test_bf16_is_what_the_processor_says(monkeypatch, flags, expected):
    monkeypatch.setattr(machine, '_cpu_info', lambda: ('a processor', flags))
    assert has_bf16('cpu') is expected and machine.hardware()['system']


def test_default_device_is_one_of_torch():
    assert default_device().type in ('cpu', 'cuda')


def test_provenance_names_no_folder_of_this_machine(monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['/here/busiseg', 'predict', '/there/scan.png', '-o', 'out'])
    p = provenance(seed=3)
    assert p['command'] == 'busiseg predict .../scan.png -o out' and p['seed'] == 3
    assert provenance('given')['command'] == 'given'
