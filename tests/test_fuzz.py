"Mutated files for every reader of foreign bytes; analysis/fuzz.py is a longer campaign, guided by coverage"
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import fuzz_targets as F
from busiseg_nb.core import BusisegError

TRIES = {'images': 2500, 'dicom': 2000, 'config': 150, 'weights': 250, 'json': 800, 'csv': 400}


@pytest.fixture(scope='module', params=F.TARGETS)
def target(request):
    "Name of a target, and its seeds"
    with tempfile.TemporaryDirectory() as tmp:
        return request.param, F.TARGETS[request.param].seeds(Path(tmp))


def test_seeds_are_read(target, tmp_path):
    "Each seed is good input for at least one of the readers it is given to"
    name, seeds = target
    for s in seeds:
        assert F.try_bytes(name, tmp_path, s) < len(F.TARGETS[name].readers(tmp_path, s))


def test_mutations_are_read_or_refused(target, record_property):
    name, seeds = target
    tried = []
    @settings(max_examples=TRIES[name], deadline=None, derandomize=True, database=None,
              phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(rng=st.randoms(use_true_random=False), seed=st.sampled_from(seeds), steps=st.integers(1, 3))
    def go(rng, seed, steps):
        for _ in range(steps):
            seed = F.mutate(seed, rng)
        tried.append(len(seed))
        with tempfile.TemporaryDirectory() as tmp:
            F.try_bytes(name, tmp, seed)
    go()
    assert len(tried) == TRIES[name]
    record_property('files fuzzed', len(tried))


def results(**changes):
    return json.dumps(F.result() | changes)


HEAD = 'kind,case,label,group,row,col,class,tp,fp,fn,tn\n'
RECORD = {'kind': F.predict.KIND, 'source': 'a', 'sha256': '0', 'settings': {}}
FOUND = [   # what the campaign and these tests found, each one an error of another kind before it was mended
    ('images', F.damaged_exif()), ('json', '9'*5000), ('json', '['*100_000),
    ('json', {'parts': {'train': 3.5, 'valid': [], 'test': []}}), ('json', {**RECORD, 'images': True}),
    ('json', {**RECORD, 'images': [{'mask': 'a_mask.png', 'overlay': None}]}),
    ('json', results(background_only_iou_mean=[])), ('json', results(scores={'iou_mean': [.5, .4, None]})),
    ('json', results(scores={'iou_mean': [10**400, None, None]})),
    ('json', results(config={'fractions': 3.5})),
    ('csv', HEAD + 'image,a,benign,a,-1,-1,benign,' + '9'*400 + ',0,0,1\n'),
    ('csv', HEAD + 'image,a,benign,a,-1,-1,,1,0,0,1\n'),
    ('csv', HEAD + 'image,a,benign,a,-1,-1,benign,x,0,0,1\n'),
    ('csv', HEAD + ',a,benign,a,-1,-1,benign,1,0,0,1\n')]


@pytest.mark.parametrize('name, data', FOUND, ids=[f'{n}-{i}' for i, (n, _) in enumerate(FOUND)])
def test_what_was_found_once(name, data, tmp_path):
    data = data if isinstance(data, (bytes, str)) else json.dumps(data)
    assert F.try_bytes(name, tmp_path, data if isinstance(data, bytes) else data.encode())


@pytest.mark.parametrize('wrong', [ValueError('a'), BusisegError('the image is bad; mend it'),
                                   BusisegError('FOLDER/x: is bad')],
                                   ids=['another error', 'no file', 'no remedy'])
def test_a_finding_is_seen(wrong):
    def read():
        raise type(wrong)(str(wrong).replace('FOLDER', '/folder'))
    with pytest.raises((ValueError, AssertionError)) as e:
        F.refused(read, '/folder')
    assert not isinstance(e.value, BusisegError)
