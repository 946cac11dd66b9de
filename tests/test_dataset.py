"Finding and verifying cases: the measured facts of BUSI, every layout, bad folders"
import os
import shutil
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from beside import SHARED, whole
from busiseg_nb.core import CLASSES, LABELS
from busiseg_nb.dataset import (
    LAYOUTS,
    Case,
    busi_near_copies,
    case_digest,
    class_counts,
    download_busi,
    find_cases,
    find_data,
    fingerprint,
    join,
    look,
    read_groups,
    recognise,
    verify_data,
    verify_dataset,
)
from busiseg_nb.images import foreground, read_stored
from busiseg_nb.machine import thread_map
from busiseg_nb.phantom import make_xray_phantom
from busiseg_nb.preprocessing import label_mask
from busiseg_nb.splits import split_data
from errors import message

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope='session')
def samples():
    "A few images each of other people's data sets, and small files that once went wrong"
    if not (SHARED/'cases').is_dir():
        pytest.skip('the sample files are not here (../shared/cases)')
    return SHARED/'cases'


# ---- BUSI ----

def test_busi_cases(busi):
    cases = find_cases(busi)
    t = class_counts(cases)
    assert t['images'].tolist() == [437, 210, 133, 780]
    assert t['masks'].sum()//2 == 798
    assert t['several masks'].tolist() == [16, 1, 0, 17]
    assert {c.name: len(c.masks) for c in cases if len(c.masks) > 2} == {'benign (195)': 3}
    assert all(c.masks[0].name == f'{c.name}_mask.png' for c in cases)
    assert [c.name for c in cases[:2]] == ['benign (1)', 'benign (2)'] and cases[-1].name == 'normal (133)'


def test_busi_verifies(busi):
    v = verify_dataset(busi)
    assert set(v.severity) == {'note'}
    assert v.problem.value_counts().to_dict() == {'coloured image': 16, 'mask with alpha': 2, 'duplicate': 1}
    alpha = v[v.problem == 'mask with alpha'].file.tolist()
    assert [f.split('_mask')[0] for f in alpha] == ['benign/benign (4)', 'benign/benign (54)']
    twin = v[v.problem == 'duplicate'].iloc[0]
    assert twin.file == 'malignant/malignant (145).png'
    assert 'benign (433)' in twin.detail and 'another label' in twin.detail


def test_busi_is_known_with_its_groups(busi):
    data = find_data(busi)
    assert (data.layout, len(data), data.is_busi, data.classes) == ('busi', 780, True, CLASSES)
    assert set(data.groups) == set(busi_near_copies())
    assert data.fingerprint == fingerprint(find_cases(busi))
    above = find_data(busi.parent/busi.name/'..'/busi.name)
    assert above.cases[0].name == 'benign (1)'


# ---- finding ----

def test_find_passes_over_what_is_no_case(folder):
    want = find_cases(folder)
    (folder/'benign'/'._benign (1).png').write_bytes(b'x')
    (folder/'benign'/'Thumbs.db').write_bytes(b'x')
    (folder/'other').mkdir()
    assert find_cases(folder) == want
    for p in list((folder/'malignant').iterdir()):
        p.rename(p.with_name(p.stem + '.PNG'))
    assert [c.name for c in find_cases(folder)] == [c.name for c in want]
    v = verify_dataset(folder)
    assert v[['file', 'problem', 'severity']].values.tolist() == [['benign/Thumbs.db', 'passed over', 'note']]


def test_masks_come_in_numeric_order(folder):
    c = find_cases(folder)[0]
    for k in (10, 2, 1):
        shutil.copy(c.masks[0], c.image.with_name(f'{c.name}_mask_{k}.png'))
    assert [p.stem.split('_mask')[1] for p in find_cases(folder)[0].masks] == ['', '_1', '_2', '_10']


@pytest.mark.parametrize('suffix, how', [('.webp', dict(lossless=True)), ('.tif', {}), ('.BMP', {})])
def test_any_suffix_that_is_read(folder, suffix, how):
    "The same pixels in another container are the same case, image and mask"
    before = [(c.name, label_mask(c)) for c in find_cases(folder)]
    for p in list(folder.rglob('*.png')):
        Image.open(p).save(p.with_suffix(suffix), **how)
        p.unlink()
    after = find_data(folder, check=True).cases
    assert [c.name for c in after] == [n for n, _ in before]
    assert all(np.array_equal(label_mask(c), m) for c, (_, m) in zip(after, before, strict=True))


def test_an_empty_folder_is_found_by_verify_too(tmp_path):
    (tmp_path/'benign').mkdir()
    assert verify_dataset(tmp_path).query('severity == "error"').problem.tolist() == ['no image']


def test_a_gap_in_the_numbers_of_masks(folder):
    c = find_cases(folder)[0]
    mask = c.masks[0].read_bytes()
    for p in c.masks:
        p.unlink()
    c.image.with_name(f'{c.name}_mask_2.png').write_bytes(mask)
    assert 'benign (1).png: has no mask' in message(find_cases, folder)
    v = verify_dataset(folder)
    assert v.detail.tolist() == ['there is no benign (1)_mask.png', 'there is no benign (1)_mask_1.png']


def test_name_used_twice(folder):
    for end in ('.png', '_mask.png'):
        shutil.copy(folder/'normal'/f'normal (1){end}', folder/'benign')
    assert 'more than one image named normal (1)' in message(find_cases, folder)
    assert 'name used twice' in set(verify_dataset(folder).problem)


def test_one_image_in_two_formats(folder):
    Image.open(folder/'benign'/'benign (1).png').save(folder/'benign'/'benign (1).bmp')
    assert 'name used twice' in set(verify_dataset(folder).problem)
    assert 'name used twice' in message(find_data, folder)


def test_verify_names_every_kind_of_problem(folder):
    assert not len(verify_dataset(folder))
    b, m, n = (folder/label for label in LABELS)
    size = Image.open(b/'benign (2).png').size
    (b/'benign (1).png').write_bytes((b/'benign (1).png').read_bytes()[:2000])
    grays = np.zeros(size[::-1], np.uint8)
    grays[:3, :3] = 255
    grays[0, 0] = 7
    Image.fromarray(grays).save(b/'benign (2)_mask.png')
    (b/'benign (3)_mask.png').unlink()
    (b/'benign (9)_mask.png').write_bytes(b'no image at all')
    Image.new('1', Image.open(m/'malignant (1).png').size).save(m/'malignant (1)_mask.png')
    Image.new('L', (5, 7), 255).save(m/'malignant (2)_mask.png')
    (m/'malignant (3)_mask.png').write_bytes(b'')
    Image.new('RGB', Image.open(n/'normal (1).png').size, (0, 0, 9)).save(n/'normal (1)_mask.png')
    colours = np.array(Image.open(n/'normal (2).png').convert('RGB'))
    colours[0, 0] = 1, 2, 3
    Image.fromarray(colours).save(n/'normal (2).png')
    for end in ('.png', '_mask.png'):
        Image.open(n/f'normal (3){end}').convert('RGBA').save(n/f'normal (4){end}')
    found = set(map(tuple, verify_dataset(folder)[['file', 'problem', 'severity']].values))
    assert found == {
        ('benign/benign (1).png', 'unreadable', 'error'),
        ('benign/benign (2)_mask.png', 'not binary', 'error'),
        ('benign/benign (3).png', 'missing mask', 'error'),
        ('benign/benign (9)_mask.png', 'orphan mask', 'error'),
        ('malignant/malignant (1)_mask.png', 'empty mask', 'error'),
        ('malignant/malignant (2)_mask.png', 'wrong size', 'error'),
        ('malignant/malignant (2)_mask.png', 'full mask', 'error'),
        ('malignant/malignant (3)_mask.png', 'unreadable', 'error'),
        ('normal/normal (1)_mask.png', 'normal with a tumour', 'error'),
        ('normal/normal (2).png', 'coloured image', 'note'),
        ('normal/normal (4)_mask.png', 'mask with alpha', 'note'),
        ('normal/normal (4).png', 'duplicate', 'note')}


def test_fingerprint_sees_names_bytes_and_labels(folder):
    cases = find_cases(folder)
    f = fingerprint(cases)
    assert f == fingerprint(cases[::-1]) and len(f) == 16
    p = cases[0].masks[0]
    old = p.read_bytes()
    p.write_bytes(old + b'\0')
    assert fingerprint(cases) != f
    p.write_bytes(old)
    assert fingerprint(cases) == f
    c = cases[0]
    others = [Case(c.name, 'malignant', c.image, c.masks), Case('x', c.label, c.image, c.masks),
              Case(c.name, c.label, c.image, c.masks*2)]
    assert len({case_digest(o) for o in (c, *others)}) == 4


# ---- layouts ----

WANT = {   # layout: images, labels, groups of two or more, cases that name a patient
    'busbra_layout': ('busbra', 6, {'benign': 4, 'malignant': 2}, 3, 6),
    'breast_layout': ('breast', 2, {'lesion': 2}, 0, 2),
    'udiat_layout': ('udiat', 4, {'lesion': 4}, 0, 0),
    'uclm_layout': ('uclm', 20, {'benign': 8, 'malignant': 8, 'normal': 4}, 1, 20),
    'mixed_suffixes': ('busi', 8, {'benign': 4, 'malignant': 2, 'normal': 2}, 0, 0)}


@pytest.mark.parametrize('name', WANT)
def test_published_layouts(name, samples):
    layout, images, labels, groups, patients = WANT[name]
    data = find_data(samples/name)
    count = {label: sum(c.label == label for c in data.cases) for label in {c.label for c in data.cases}}
    if name == 'busbra_layout':
        labels = count       # its table is made up: two of the six are malignant in the data set itself
    assert (data.layout, len(data), count) == (layout, images, labels)
    assert (len(data.groups), sum(bool(c.group) for c in data.cases)) == (groups, patients)
    for c in data.cases:
        mask = label_mask(c)
        assert mask.max() < len(data.classes) and mask.any() == (c.label != 'normal')
        if c.label in data.classes:
            assert set(np.unique(mask)) == {0, data.classes.index(c.label)}
    assert str(images) in str(data) and data.fingerprint


def test_a_lesion_of_breast_is_any_mask_pixel(samples):
    case = find_data(samples/'breast_layout').by_name['case001']
    assert [p.stem for p in case.masks] == ['case001_tumor', 'case001_other1']
    parts = [np.array(Image.open(p)) > 0 for p in case.masks]
    assert np.array_equal(label_mask(case) > 0, parts[0] | parts[1])


def test_verify_drops_no_image_in_silence(samples):
    "Two of the eight cases have JPEG masks, whose edges are smeared: they are found, and named"
    assert len(find_cases(samples/'mixed_suffixes')) == 8
    v = verify_data(samples/'mixed_suffixes')
    bad = v[v.severity == 'error']
    assert sorted(bad.file) == ['benign/benign (3)_mask.jpg', 'benign/benign (4)_mask.jpg']
    assert set(bad.problem) == {'not binary'}
    assert 'benign (3)_mask.jpg: not binary' in message(find_data, samples/'mixed_suffixes', check=True)


def test_whole_busbra():
    data = find_data(whole('BUSBRA'))
    labels = class_counts(data.cases)['images'].to_dict()
    assert labels == {'benign': 1268, 'malignant': 607, 'normal': 0, 'total': 1875}
    assert len({c.group for c in data.cases}) == 1064 and data.notes == ()
    about = data.by_name['bus_0001-l'].facts
    assert about == {'device': 'GE Logiq 7 @10-14MHz', 'BIRADS': '4', 'side': 'left',
                     'histology': 'invasive ductal carcinoma'}
    copied = [g for g in data.groups if len({data.by_name[n].group for n in g}) > 1]
    assert [{n.split('-')[0] for n in g} for g in copied] == [
        {'bus_0044', 'bus_0065'}, {'bus_0056', 'bus_0091'}, {'bus_0341', 'bus_0356'}]
    part = {c.name: p for p, cs in split_data(data).items() for c in cs}
    assert all(len({part[n] for n in g}) == 1 for g in data.groups)


def test_groups_that_share_a_name_are_one(folder, tmp_path):
    table = tmp_path/'groups.csv'
    rows = ['1,benign (1)', '1,benign (2)', '2,benign (2)', '2,benign (3)', '3,benign (4)']
    table.write_text('\n'.join(['group,name', *rows]))
    assert find_data(folder, groups=table).groups == (('benign (1)', 'benign (2)', 'benign (3)'),)


def test_whole_breast():
    data = find_data(whole('BrEaST'))
    labels = class_counts(data.cases)['images'].to_dict()
    assert labels == {'benign': 154, 'malignant': 98, 'normal': 4, 'total': 256}
    assert len({c.group for c in data.cases}) == 256 and not data.groups and data.notes == ()
    assert data.by_name['case001'].facts['spacing_mm'] == pytest.approx(.078125)
    normal = next(c for c in data.cases if c.label == 'normal')
    assert normal.masks == () and not label_mask(normal).any()


def published(folder, tmp_path):
    "BUS-UCLM's and UDIAT's layouts from nine phantom cases"
    for name in ('images', 'masks', 'original', 'GT'):
        (tmp_path/('UCLM' if name in ('images', 'masks') else 'UDIAT')/name).mkdir(parents=True)
    colours = {'benign': (0, 255, 0), 'malignant': (255, 0, 0), 'normal': (0, 0, 0)}
    for i, c in enumerate(find_cases(folder)):
        stem = f'{"ABCD"[i//3]*4}_{i:03}.png'
        shutil.copy(c.image, tmp_path/'UCLM'/'images'/stem)
        mask = np.array(Image.open(c.masks[0]).convert('L')) > 0
        rgb = mask[..., None]*np.array(colours[c.label], np.uint8)
        Image.fromarray(rgb).save(tmp_path/'UCLM'/'masks'/stem)
        shutil.copy(c.image, tmp_path/'UDIAT'/'original'/f'{i:06}.png')
        Image.fromarray((mask | (i > 5))*np.uint8(255)).save(tmp_path/'UDIAT'/'GT'/f'{i:06}.png')


def test_what_cannot_be_used_is_left_out_loudly(folder, tmp_path):
    published(folder, tmp_path)
    root = tmp_path/'UCLM'
    assert len(find_data(root)) == 9 and find_data(root).notes == ()
    Image.new('RGB', (9, 9)).save(root/'masks'/'AAAA_001.png')
    (root/'masks'/'BBBB_004.png').unlink()
    size = Image.open(root/'images'/'AAAA_000.png').size
    Image.new('RGB', size, (1, 2, 3)).save(root/'masks'/'AAAA_000.png')
    data = find_data(root)
    assert len(data) == 6 and len(data.notes) == 1
    assert data.notes[0].startswith('3 of 9 images are left out (')
    for name in ('AAAA_000', 'AAAA_001', 'BBBB_004'):
        assert name in data.notes[0]
    v = verify_data(root)
    assert set(map(tuple, v[v.severity == 'error'][['file', 'problem']].values)) == {
        ('masks/AAAA_000.png', 'unknown values'), ('masks/AAAA_001.png', 'wrong size'),
        ('images/BBBB_004.png', 'missing mask')}
    assert len(find_data(root, check=True)) == 6
    shutil.rmtree(root/'masks')
    (root/'masks').mkdir()
    assert 'has no mask' in message(find_data, root)


def test_patients_stay_together_and_other_groups_come_on_top(folder, tmp_path):
    published(folder, tmp_path)
    (tmp_path/'g.csv').write_text('group,name\n1,AAAA_000\n1,CCCC_008\n2,BBBB_004\n')
    data = find_data(tmp_path/'UCLM', groups=tmp_path/'g.csv')
    assert data.groups == (
        ('AAAA_000', 'AAAA_001', 'AAAA_002', 'CCCC_006', 'CCCC_007', 'CCCC_008'),
        ('BBBB_003', 'BBBB_004', 'BBBB_005'))


def test_capitals_and_levels_do_not_matter(folder, tmp_path):
    for label in LABELS:
        (folder/label).rename(folder/label.upper())
    assert len(find_data(folder)) == 9
    deep = tmp_path/'archive'/'inner'
    deep.mkdir(parents=True)
    folder.rename(deep/'Dataset_BUSI_with_GT')
    data = find_data(tmp_path/'archive')
    assert data.root == deep/'Dataset_BUSI_with_GT'
    assert data.notes[0].startswith('found in inner/Dataset_BUSI_with_GT')
    make_xray_phantom(deep/'other', 6, 32)
    told = message(find_data, tmp_path/'archive')
    assert 'holds several data sets: ' in told
    assert 'Dataset_BUSI_with_GT (busi)' in told and 'other (own)' in told


def test_what_is_not_recognised_says_what_is_there(tmp_path):
    assert 'it is empty' in message(find_data, tmp_path)
    for name in ('scans', 'labels/0', 'labels/1'):
        (tmp_path/name).mkdir(parents=True)
    for i in range(12):
        (tmp_path/'scans'/f'{i}.png').write_bytes(b'x')
    told = message(find_data, tmp_path)
    assert 'scans holds 12 files' in told and 'labels, one level down, has 0, 1' in told
    assert 'own data: images/, masks/ and classes.json' in told
    assert 'does not exist' in message(recognise, tmp_path/'gone')
    assert 'is a file' in message(recognise, tmp_path/'scans'/'1.png')


def test_masks_one_level_down_are_said(tmp_path):
    root = make_xray_phantom(tmp_path/'x', 12, 32)
    (root/'masks').rename(root/'0')
    (root/'masks').mkdir()
    (root/'0').rename(root/'masks'/'0')
    assert 'masks/0 holds 12 files' in message(find_data, root)
    assert look(root).startswith('it holds 1 files; images holds 12 files; masks, one level down, has 0')


def test_own_data_verifies_in_one_go(tmp_path):
    root = make_xray_phantom(tmp_path/'x', 8, 32)
    assert not (verify_data(root).severity == 'error').any()
    (root/'masks'/'x000.png').unlink()
    (root/'images'/'x001.png').unlink()
    Image.new('L', (9, 9)).save(root/'masks'/'x002.png')
    Image.new('L', (32, 32), 77).save(root/'masks'/'x003.png')
    (root/'images'/'x004.png').write_bytes(b'no image')
    (root/'images'/'x005.txt').write_text('a note')
    v = verify_data(root)
    assert set(map(tuple, v[v.severity == 'error'][['file', 'problem']].values)) >= {
        ('images/x000.png', 'missing mask'), ('masks/x001.png', 'orphan mask'),
        ('masks/x002.png', 'wrong size'),
        ('masks/x003.png', 'unknown values'), ('images/x004.png', 'unreadable')}
    assert ('images/x005.txt', 'passed over') in set(map(tuple, v[['file', 'problem']].values))
    (root/'classes.json').write_text('{')
    assert set(map(tuple, verify_data(root)[['file', 'problem']].values)) == {
        ('classes.json', 'unreadable'),
        ('images/x000.png', 'missing mask'), ('masks/x001.png', 'orphan mask'),
        ('masks/x002.png', 'wrong size'), ('images/x004.png', 'unreadable'),
        ('images/x005.txt', 'passed over')}


def test_joined(folder, tmp_path):
    published(folder, tmp_path)
    busi, uclm, udiat = find_data(folder), find_data(tmp_path/'UCLM'), find_data(tmp_path/'UDIAT')
    both = join([busi, uclm])
    assert (both.layout, len(both), both.classes) == ('busi+uclm', 18, CLASSES)
    assert both.groups == busi.groups + uclm.groups and both.parts == (busi, uclm)
    assert both.fingerprint == join([uclm, busi]).fingerprint
    assert both.fingerprint not in (busi.fingerprint, uclm.fingerprint)
    assert join([busi]) is busi
    assert 'has the classes background, tumour' in message(join, [busi, udiat])
    assert '9 names stand in more than one' in message(join, [busi, busi])
    fewer = both.only([c for c in both.cases if c.name != 'AAAA_000'])
    assert len(fewer) == 17 and ('AAAA_001', 'AAAA_002') in fewer.groups


def test_a_stranger_adds_a_layout(tmp_path, monkeypatch, folder):
    "One line in the table: a flat folder of scan_1.png and scan_1.mask.png"
    from busiseg_nb.dataset import Found, Layout
    (tmp_path/'flat').mkdir()
    for i, c in enumerate(find_cases(folder)):
        shutil.copy(c.image, tmp_path/'flat'/f'scan_{i}.png')
        shutil.copy(c.masks[0], tmp_path/'flat'/f'scan_{i}.mask.png')
    def read(root, classes=None, progress=False):
        images = [p for p in sorted(root.glob('*.png')) if '.mask' not in p.name]
        return Found(tuple(Case(p.stem, 'lesion', p, (p.with_suffix('.mask.png'),)) for p in images),
                     classes=('background', 'tumour'))
    def recognised(folder): return bool([*folder.glob('*.mask.png')])
    monkeypatch.setitem(LAYOUTS, 'flat', Layout('flat: one folder', recognised, read))
    data = find_data(tmp_path/'flat')
    assert (data.layout, len(data)) == ('flat', 9)
    assert set(verify_data(tmp_path/'flat').problem) == {'empty mask'}     # its normal images
    assert len(find_data(tmp_path/'flat', check=True)) == 6


def test_groups_file(tmp_path):
    f = tmp_path/'g.csv'
    f.write_text('group,name\n1,a\n1,b\n2,c\n')
    assert read_groups(f) == [('a', 'b'), ('c',)]
    f.write_text('group,name\n1,\n')
    assert 'a row without a group or a name' in message(read_groups, f)
    f.write_text('g,n\n1,2\n')
    assert 'lacks the columns group and name' in message(read_groups, f)
    assert 'cannot be read as CSV' in message(read_groups, tmp_path/'none.csv')


def test_old_names_still_work():
    import busiseg_nb.dataset as dataset
    for name in ('split_cases', 'load_split', 'read_png', 'PARTS'):
        with pytest.warns(DeprecationWarning, match='has moved from busiseg_nb.dataset'):
            assert getattr(dataset, name)
    assert not hasattr(dataset, 'no_such_name')


# ---- what cases are read with ----

@pytest.mark.parametrize('mode', ['1', 'L', 'LA', 'P', 'RGB', 'RGBA'])
def test_foreground_of_every_mode(mode, tmp_path):
    mask = np.random.default_rng(0).random((13, 8)) < .3
    Image.fromarray(mask).convert('L').convert(mode).save(tmp_path/'m.png')
    im = read_stored(tmp_path/'m.png')
    out = foreground(im)
    assert im.mode == mode and out.dtype == bool and (out == mask).all()
    assert (foreground(tmp_path/'m.png') == mask).all()
    assert set(np.unique(out.view(np.uint8))) == {0, 1}, 'a byte that is not 0 or 1 spoils sums and products'


def test_alpha_is_ignored(tmp_path):
    a = np.zeros((4, 4, 4), np.uint8)
    a[..., 3] = 255
    a[1, 1] = 255, 255, 255, 0
    Image.fromarray(a).save(tmp_path/'m.png')
    assert np.argwhere(foreground(tmp_path/'m.png')).tolist() == [[1, 1]]


def test_unreadable_files(tmp_path):
    good = tmp_path/'good.png'
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)).save(good)
    for n in (0, 4, 20, 60, 2000):
        (tmp_path/'bad.png').write_bytes(good.read_bytes()[:n])
        assert f"{tmp_path/'bad.png'}: cannot be read as an image" in message(read_stored, tmp_path/'bad.png')
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path/'deep.png')
    assert '8 bits per channel' in message(read_stored, tmp_path/'deep.png')


def test_thread_map_keeps_order_and_stops():
    assert thread_map(lambda x: x*x, range(50), workers=7) == [x*x for x in range(50)]
    seen = []
    def boom(x):
        seen.append(x)
        if x == 0:
            raise KeyError(x)
        time.sleep(.01)         # all of them would take five seconds
    with pytest.raises(KeyError):
        thread_map(boom, range(1000), workers=2)
    assert len(seen) < 1000


# ---- download ----

def test_download(folder, tmp_path, monkeypatch):
    asked = {}
    def dataset_download(handle):
        asked.update(handle=handle, cache=os.environ.get('KAGGLEHUB_CACHE'))
        shutil.copytree(folder, tmp_path/'kaggle'/'versions'/'Dataset_BUSI_with_GT', dirs_exist_ok=True)
        return str(tmp_path/'kaggle')
    monkeypatch.setitem(sys.modules, 'kagglehub', types.SimpleNamespace(dataset_download=dataset_download))
    monkeypatch.delenv('KAGGLEHUB_CACHE', raising=False)
    assert len(find_cases(download_busi(tmp_path/'mine'))) == 9
    assert asked == {'handle': 'aryashah2k/breast-ultrasound-images-dataset', 'cache': str(tmp_path/'mine')}
    assert 'KAGGLEHUB_CACHE' not in os.environ
    shutil.rmtree(tmp_path/'kaggle'/'versions'/'Dataset_BUSI_with_GT'/'normal')
    def no_network(handle):
        raise ConnectionError('no route\nto host')
    monkeypatch.setitem(sys.modules, 'kagglehub', types.SimpleNamespace(dataset_download=no_network))
    assert 'ConnectionError: no route to host' in message(download_busi)
    monkeypatch.setitem(sys.modules, 'kagglehub', None)
    assert "pip install 'busiseg_nb[download]'" in message(download_busi)
