"Names, errors, seeds and groups."
import pickle
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from busiseg_nb import core, files, images, machine, phantom
from busiseg_nb.core import (
    CLASSES,
    COLOURS,
    VALUES,
    BusisegError,
    DiskFull,
    class_names_for,
    colours_of,
    connected,
    fail,
    seed_everything,
)


def test_classes_have_the_papers_values():
    assert VALUES == {'background': 0, 'benign': 1, 'malignant': 2} and len(COLOURS) == len(CLASSES)


def test_default_class_names():
    assert class_names_for(1) == class_names_for(2) == ('background', 'tumour')
    assert class_names_for(3) == CLASSES
    assert class_names_for(5) == ('background', 'class 1', 'class 2', 'class 3', 'class 4')


@pytest.mark.parametrize('classes', [1, 2, 3, 6, 20])
def test_a_colour_for_every_class(classes):
    colours = colours_of(classes)
    assert len(colours) == classes and colours[:3] == list(COLOURS)[:classes]
    assert len(set(colours)) == min(classes, 8)


# ---- errors ----

def test_an_error_is_its_fields():
    e = BusisegError('a.png', 'is\ntruncated', 'copy\tit  again')
    assert (e.what, e.problem, e.remedy) == ('a.png', 'is truncated', 'copy it again')
    assert str(e) == 'a.png: is truncated; copy it again'
    assert str(BusisegError('a.png', 'is empty')) == 'a.png: is empty'
    assert str(BusisegError('only a line')) == 'only a line'


def test_an_error_about_another_thing():
    e = DiskFull('a.png', 'cannot be written', 'free some space')
    other = e.about('b.png')
    assert type(other) is DiskFull and str(other) == 'b.png: cannot be written; free some space'
    assert str(e) == 'a.png: cannot be written; free some space'


@pytest.mark.parametrize('kind', [BusisegError, DiskFull])
def test_an_error_passes_between_processes(kind):
    e = pickle.loads(pickle.dumps(kind('a.png', 'is truncated', 'copy it again')))
    assert type(e) is kind and str(e) == 'a.png: is truncated; copy it again'


def test_a_line_stays_one_line_and_short():
    e = BusisegError('a\x1b[31m\n.png', 'x'*500, 'try\r\nagain')
    assert str(e).isprintable() and len(e.problem) == 200 and e.problem.endswith('…')


@pytest.mark.parametrize('kind', [BusisegError, DiskFull])
def test_fail_raises_the_kind_that_was_asked_for(kind):
    with pytest.raises(kind, match='^a.png: is empty; give another$'):
        fail('a.png', 'is empty', 'give another', kind)


# ---- seeds ----

def test_a_seed_sets_every_generator():
    import torch
    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()
    seed_everything(5)
    first = draw()
    seed_everything(5)
    assert draw() == first
    seed_everything(2**32 + 5)                       # more than NumPy takes
    assert draw() != first


# ---- groups ----

def by_hand(n, pairs):
    "Groups by trying again and again until nothing changes"
    group = list(range(n))
    for _ in range(n):
        for a, b in pairs:
            group[a] = group[b] = min(group[a], group[b])
    return [[i for i in range(n) if group[i] == g] for g in sorted(set(group))]


def test_links_that_once_made_two_groups_of_one():
    assert connected(6, [(0, 5), (1, 4), (2, 3), (3, 4), (4, 5)]) == [[0, 1, 2, 3, 4, 5]]


def test_groups_without_things_or_pairs():
    assert connected(0, []) == [] and connected(3, []) == [[0], [1], [2]]
    assert connected(2, np.zeros((0, 2), int)) == [[0], [1]] and connected(2, {(1, 1)}) == [[0], [1]]


@st.composite
def graphs(draw):
    "A number of things, and pairs of them"
    n = draw(st.integers(1, 12))
    return n, draw(st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=20))


@settings(max_examples=500, deadline=None)
@given(graphs())
def test_groups_are_those_of_brute_force(graph):
    assert connected(*graph) == by_hand(*graph)


# ---- names that have moved ----

ROOMS = {'files': files, 'machine': machine, 'images': images, 'phantom': phantom}


@pytest.mark.parametrize('new, name', [(new, name) for new, names in core.MOVED.items() for name in names])
def test_moved_names_are_still_found(new, name):
    text = f'{name} has moved from busiseg_nb.core to busiseg_nb.{new}'
    with pytest.warns(DeprecationWarning, match=text) as w:
        found = getattr(core, name)
    assert found is getattr(ROOMS[new], name) and w[0].filename == __file__


def test_names_that_never_were_are_not_found():
    with pytest.raises(AttributeError, match="busiseg_nb.core has no attribute 'nothing'"):
        _ = core.nothing
