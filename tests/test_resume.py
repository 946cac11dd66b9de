"""Training that is killed at random moments ends in the same weights as training that is not

And so does every other process with the same seed.
"""
from dataclasses import replace

import pytest

import tiny
from children import script

KILLS = 20


@pytest.fixture(scope='module')
def killed(tmp_path_factory):
    "One process prepares everything and forks a child for each attempt, then kills it after a random time"
    tmp = tmp_path_factory.mktemp('killed')
    return tmp, script('kill_training.py', tmp, 'a', KILLS, 1, PYTHONHASHSEED='0')


def test_killed_twenty_times_ends_bit_identical(killed, record_property):
    record_property('kills survived', killed[1]['kills'])
    record_property('results lost', killed[1]['lost'])
    assert (killed[1]['kills'], killed[1]['lost']) == (KILLS, 0)


def test_another_process_makes_the_same_split_cache_and_weights(killed):
    "With other hash values, more threads that fill the cache, no kill; computed by one thread and by two"
    tmp, one = killed
    other = script('kill_training.py', tmp, 'b', 0, 3, PYTHONHASHSEED='1')
    assert {**other, 'kills': KILLS} == one and len(one) == 6


def test_minutes_end_a_run_cleanly(phantom, tmp_path):
    from busiseg_nb.runs import How, make_profile, run
    profile = make_profile('demo', model=tiny.NAME, epochs=3, resize=64, tile=64)
    how = How('t', tmp_path, tmp_path/'c', progress=False, say=lambda line: None)
    first = run(phantom, profile, how=replace(how, minutes=1e-6))
    assert first.result == {'finished': False, 'epochs_done': 1} and not first.finished
    assert not (tmp_path/'t'/'results.json').exists()
    again = replace(how, resume=True)
    assert run(phantom, profile, how=again).result['training']['epochs'] == 3
    history = tmp_path/'t'/'history.csv'
    rows = history.read_text()
    history.unlink()   # as if killed before the last row was written
    assert run(phantom, profile, how=again).result['training']['epochs'] == 3 and history.read_text() == rows
