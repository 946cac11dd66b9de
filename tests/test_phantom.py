"What the notebook of the phantom cannot show: other processes, kills, and any size."
import json
import tempfile
import time

import numpy as np
import pytest
from PIL import Image

from busiseg_nb.core import LABELS, BusisegError
from busiseg_nb.phantom import make_phantom, make_xray_phantom, phantom_image, xray_image
from children import digest, python

SMALL = {'n': (2, 1, 1), 'seed': 5, 'scale': .3}


def test_reuse_needs_no_right_to_write(tmp_path):
    root = make_phantom(tmp_path/'a'/'phantom', **SMALL)
    before = digest(root)
    with pytest.MonkeyPatch.context() as mp:
        mp.setattr(tempfile, 'mkdtemp', lambda **kw: pytest.fail('nothing should be written'))
        assert make_phantom(root, **SMALL) == root
    assert digest(root) == before


def test_damaged_phantom_is_made_again(tmp_path):
    root = make_phantom(tmp_path/'phantom', **SMALL)
    before = digest(root)
    (root/'benign'/'benign (2).png').unlink()
    assert digest(make_phantom(root, **SMALL)) == before
    make_phantom(root, **{**SMALL, 'seed': 6})
    assert digest(root) != before and json.loads((root/'phantom.json').read_text())['seed'] == 6


def test_other_folders_are_never_replaced(tmp_path):
    mine = tmp_path/'mine'
    mine.mkdir()
    (mine/'phantom.json').write_text('[1]')
    (mine/'scan.png').touch()
    for given in (mine, mine/'scan.png'):
        with pytest.raises(BusisegError, match='is not a phantom'):
            make_phantom(given, **SMALL)
    assert len(list(mine.iterdir())) == 2
    (tmp_path/'empty').mkdir()
    make_phantom(tmp_path/'empty', **SMALL)


def test_phantom_is_the_same_in_another_process(tmp_path):
    here = digest(make_phantom(tmp_path/'here', **SMALL))
    code = f'import sys; from busiseg_nb.phantom import make_phantom; make_phantom(sys.argv[1], **{SMALL})'
    p = python(code, tmp_path/'there', PYTHONHASHSEED='7', OMP_NUM_THREADS='2')
    assert p.wait(60) == 0 and digest(tmp_path/'there') == here
    np.random.seed(1)
    assert digest(make_phantom(tmp_path/'again', **SMALL)) == here


def test_phantom_survives_a_kill(tmp_path):
    p = python('''import sys
from busiseg_nb.phantom import make_phantom
print("go", flush=True)
make_phantom(sys.argv[1], (200, 0, 0))
''', tmp_path/'p')
    assert p.stdout.readline() == 'go\n'
    time.sleep(.5)
    p.kill()
    p.wait(10)
    assert not (tmp_path/'p').exists()                 # whole or not at all
    make_phantom(tmp_path/'p', **SMALL)


@pytest.mark.parametrize('label, low, high', [('benign', .05, .09), ('malignant', .11, .18)])
def test_phantom_matches_busi_statistics(label, low, high):
    masks = [phantom_image(label, (141, 168), (0, i))[1][0] for i in range(150)]
    assert low < np.mean([m.mean() for m in masks]) < high
    for m in masks:
        assert m.any() and not m[[0, -1]].any() and not m[:, [0, -1]].any()


@pytest.mark.parametrize('size', [(32, 32), (33, 90), (310, 190), (57, 1048)])
@pytest.mark.parametrize('label', LABELS)
def test_any_size(label, size):
    img, masks = phantom_image(label, size, seed=1)
    assert img.shape == size and img.dtype == np.uint8 and img.std() > 3
    assert len(masks) == (label != 'normal') and all(m.shape == size and m.any() for m in masks)


@pytest.mark.parametrize('bad', [{'label': 'cyst'}, {'label': 'benign', 'lesions': 0},
                                 {'label': 'benign', 'size': (8, 300)}, {'label': 'benign', 'seed': -1},
                                 {'label': 'benign', 'size': (32, 32), 'lesions': 300}])
def test_images_that_cannot_be(bad):
    with pytest.raises(BusisegError):
        phantom_image(**bad)


@pytest.mark.parametrize('bad', [{'n': (1, 2)}, {'n': (1, -1, 0)}, {'seed': -1}, {'scale': 0},
                                 {'scale': float('nan')}])
def test_data_sets_that_cannot_be(tmp_path, bad):
    with pytest.raises(BusisegError):
        make_phantom(tmp_path/'p', **bad)


def test_layout(phantom):
    for label, n in zip(LABELS, (8, 6, 3), strict=True):
        images = [p for p in (phantom/label).iterdir() if '_mask' not in p.name]
        assert {p.name for p in images} == {f'{label} ({i}).png' for i in range(1, n + 1)}
        for p in images:
            im = Image.open(p)
            masks = [Image.open(m) for m in sorted(p.parent.glob(f'{p.stem}_mask*.png'))]
            assert im.mode == 'L' and masks and all(m.size == im.size for m in masks)
            assert all((np.array(m.convert('L')).max() > 0) == (label != 'normal') for m in masks)
    assert (phantom/'benign'/'benign (2)_mask_1.png').exists()


def test_the_other_modality(tmp_path):
    found = [set(np.unique(xray_image(64, seed)[1])) for seed in range(12)]
    assert found[0] == found[6] == {0} and {0, 1, 2} in found and all(f <= {0, 1, 2} for f in found)
    here = digest(make_xray_phantom(tmp_path/'a', 6, 32, seed=2))
    assert digest(make_xray_phantom(tmp_path/'b', 6, 32, seed=2)) == here
    assert digest(make_xray_phantom(tmp_path/'c', 6, 32, seed=3)) != here
