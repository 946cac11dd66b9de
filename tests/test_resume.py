"""Training that is killed at random moments ends in the same weights as training that is not

And so does every other process with the same seed.
"""
from dataclasses import replace

import pandas as pd
import pytest
import torch

import tiny
from busiseg_nb.core import BusisegError
from busiseg_nb.files import read_json
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


@pytest.fixture(scope='module')
def go(tmp_path_factory):
    "A function that runs a small network at a constant rate to so many epochs, under a name"
    from busiseg_nb.phantom import make_phantom
    from busiseg_nb.runs import How, make_profile, run
    tmp = tmp_path_factory.mktemp('longer')
    phantom = make_phantom(tmp/'phantom', n=(8, 6, 3), seed=5, scale=.5)

    def to(name, epochs, minutes=None, **choices):
        profile = make_profile('demo', model=tiny.NAME, epochs=epochs, resize=64, tile=64, **choices)
        return run(phantom, profile, how=How(name, tmp/'runs', tmp/'cache', resume=True, minutes=minutes,
                                             progress=False, say=lambda line: None))
    return to


CONSTANT = dict(schedule='constant', ema=.9)


def test_a_finished_run_goes_on_to_more_epochs(go):
    at_once, short = go('at once', 2, **CONSTANT), go('in two', 1, **CONSTANT)
    longer = go('in two', 2, **CONSTANT)
    losses = [pd.read_csv(r.folder/'history.csv').train_loss.tolist() for r in (at_once, longer)]
    assert losses[0] == losses[1] and len(losses[0]) == 2
    assert longer.scores == at_once.scores and longer.result['training']['epochs'] == 2
    assert read_json(longer.folder/'results-1.json')['scores'] == short.scores
    last = [(r.folder/'last'/'model.safetensors').read_bytes() for r in (at_once, longer)]
    assert last[0] == last[1]


def test_a_stopped_run_ends_with_the_epochs_it_has(go):
    assert go('stopped', 3, minutes=1e-6, **CONSTANT).result == {'finished': False, 'epochs_done': 1}
    ended, short = go('stopped', 1, **CONSTANT), go('short', 1, **CONSTANT)
    assert ended.finished and ended.scores == short.scores
    last = [(r.folder/'last'/'model.safetensors').read_bytes() for r in (ended, short)]
    assert last[0] == last[1]


def test_a_run_has_no_fewer_epochs_than_it_was_trained_for(go):
    go('two', 2, **CONSTANT)
    with pytest.raises(BusisegError, match='has 2 epochs already; ask for as many, or for more'):
        go('two', 1, **CONSTANT)


def test_a_schedule_has_a_fixed_end(go):
    go('cycle', 1, schedule='one-cycle')
    with pytest.raises(BusisegError, match=r'was trained with other settings \(epochs\)'):
        go('cycle', 2, schedule='one-cycle')


def test_a_run_of_another_version_is_not_taken_up(go):
    "Its network may have layers that ours has not: one line says so"
    path = go('older', 1, **CONSTANT).folder/'resume.pt'
    saved = torch.load(path, weights_only=True)
    saved['model']['encoder.conv_head.weight'] = torch.ones(1)
    torch.save(saved, path)
    with pytest.raises(BusisegError, match='was begun by another version, whose network has other layers'):
        go('older', 2, **CONSTANT)
