"Near-copies: found from the pixels, frozen in the package, never torn apart by a grouped split"
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from beside import whole
from busiseg_nb.core import BusisegError
from busiseg_nb.dataset import (
    COPIED_PATIENTS,
    Case,
    busi_near_copies,
    find_cases,
    find_data,
    read_groups,
)
from busiseg_nb.leakage import (
    SAME_FRAME,
    Link,
    agreement_ceiling,
    common_view,
    find_groups,
    find_links,
    group_links,
    group_table,
    label_conflicts,
    leak_share,
    leak_shares,
    mask_agreement,
    near_copies,
    show_group,
    verify_link,
)
from busiseg_nb.phantom import phantom_image
from busiseg_nb.splits import kfold_cases, split_cases

COUNTS = dict(benign=437, malignant=210, normal=133)
BUSI = [Case(f'{label} ({i})', label, Path(f'{label} ({i}).png'), ())
        for label, n in COUNTS.items() for i in range(1, n + 1)]


def write(folder, imgs, masks=None):
    "Cases of these images"
    folder.mkdir(parents=True, exist_ok=True)
    out = []
    for i, img in enumerate(imgs, 1):
        p = folder/f'benign ({i}).png'
        Image.fromarray(img).save(p)
        m = ()
        if masks:
            m = (folder/f'benign ({i})_mask.png',)
            Image.fromarray(masks[i - 1]).save(m[0])
        out.append(Case(p.stem, 'benign', p, m))
    return out


def resized(a, f, how=Image.LANCZOS):
    "An array at another scale"
    return np.array(Image.fromarray(a).resize((round(a.shape[1]*f), round(a.shape[0]*f)), how))


def test_frozen_list_is_sane():
    groups = busi_near_copies()
    names = [n for g in groups for n in g]
    assert len(names) == len(set(names)) and set(names) <= {c.name for c in BUSI}
    assert all(len(g) > 1 for g in groups)
    assert any({'benign (433)', 'malignant (145)'} <= set(g) for g in groups)
    strict = busi_near_copies(frames=False)
    assert set(strict) < set(groups) and len(strict) >= 50
    assert ('benign (433)', 'malignant (145)') in label_conflicts(groups)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), fractions=st.sampled_from([(.7, .2, .1), (.8, 0, .2), (.5, .25, .25)]))
def test_no_grouped_split_tears_a_group(seed, fractions):
    groups = busi_near_copies()
    split = split_cases(BUSI, fractions, seed=seed, groups=groups)
    part = {c.name: p for p, cs in split.items() for c in cs}
    assert len(part) == len(BUSI)
    for g in groups:
        assert len({part[n] for n in g}) == 1, g
    assert leak_share(split, groups) == 0


@pytest.mark.parametrize('seed', range(8))
def test_no_grouped_fold_tears_a_group(seed):
    groups = busi_near_copies()
    for fold in kfold_cases(BUSI, seed=seed, groups=groups):
        part = {c.name: p for p, cs in fold.items() for c in cs}
        for g in groups:
            assert len({part[n] for n in g}) == 1, g


def test_random_split_leaks():
    shares = leak_shares(BUSI, busi_near_copies(frames=False), range(30))
    assert .25 < shares.mean() < .4, 'about a third of the test images has a near-copy in training'


def test_copies_are_found_and_nothing_else(tmp_path):
    rng = np.random.default_rng(0)
    labels = ('benign', 'malignant', 'normal')
    base = [phantom_image(labels[i % 3], (360, 440), seed=20 + i)[0] for i in range(9)]
    noisy = np.clip(base[4] + rng.normal(0, 3, base[4].shape), 0, 255).astype(np.uint8)
    marked = base[5].copy()
    marked[100:102, 80:300] = 255
    marked[60:200, 150:152] = 255
    marked[300:320, 40:160] = 230
    gamma = (255*(base[6]/255.)**.8).astype(np.uint8)
    made = [base[0], base[1][20:320, 50:400], resized(base[2], .6), resized(base[3][10:350, 30:430], 1.4),
            noisy, marked, gamma]
    cases = write(tmp_path/'benign', base + made)
    found = [tuple(c.name for c in g) for g in near_copies(cases)]
    assert found == [(f'benign ({i})', f'benign ({i + 9})') for i in range(1, 8)]


def test_mirror_image_and_flat_images_are_not_grouped(tmp_path):
    img = phantom_image('benign', (300, 360), seed=2)[0]
    flat = np.zeros((200, 300), np.uint8)
    assert near_copies(write(tmp_path/'benign', [img, img[:, ::-1].copy(), flat, flat + 90])) == []
    assert near_copies([]) == [] and near_copies(write(tmp_path/'one'/'benign', [img])) == []


def test_unreadable_image_is_named(tmp_path):
    p = tmp_path/'benign (1).png'
    p.write_bytes(b'no image')
    with pytest.raises(BusisegError, match=r'benign \(1\)\.png'):
        near_copies([Case('benign (1)', 'benign', p, ())])
    with pytest.raises(BusisegError):
        show_group([], ['benign (1)'])


def test_groups_are_connected_components():
    def link(a, b, s): return Link(a, b, 9, 1., 0., 1., 0., s)
    links = [link(0, 3, .95), link(3, 5, .99), link(1, 2, SAME_FRAME - .01), link(6, 7, SAME_FRAME)]
    assert group_links(8, links) == [[0, 3, 5], [6, 7]]
    t = group_table(BUSI[:8], links)
    assert dict(zip(t.name, t.score, strict=True))['benign (4)'] == .95
    assert dict(zip(t.name, t.relation, strict=True))['benign (2)'] == 'frame'


@pytest.mark.parametrize('f', [.5, .8, 1, 1.7])
def test_register_of_masks(tmp_path, f):
    img, (mask,) = phantom_image('benign', (400, 480), seed=5)
    cut = np.s_[24:390, 30:470]
    small = resized((mask[cut]*255).astype(np.uint8), f, Image.NEAREST) > 0
    cases = write(tmp_path/'benign', [img, resized(img[cut], f)], [mask, small])
    links = find_links(cases)
    t = mask_agreement(cases, links)
    assert len(t) == 1 and t.iou[0] > .96
    assert abs(links[0].sx - f) < .004*f and links[0].score > SAME_FRAME
    assert agreement_ceiling(t, n=20)['IoU mean'][0] == pytest.approx(t.iou[0], abs=1e-4)


def test_shift_is_exact_to_the_pixel():
    img = phantom_image('normal', (300, 300), seed=1)[0]
    A, B, overlap = common_view(img, img[40:, 25:], Link(0, 1, 9, 1., -25., 1., -40.))
    assert np.array_equal(A, B) and overlap == 1
    assert verify_link(img, img[40:, 25:], Link(0, 1, 9, 1., -25., 1., -40.)).score > .99
    assert common_view(img, img, Link(0, 1, 9, 1., -290., 1., 0.))[0] is None


def test_copied_patients_are_what_the_pixels_say():
    data, listed = find_data(whole('BUSBRA')), read_groups(COPIED_PATIENTS)
    patients = {data.by_name[name].group for group in listed for name in group}
    cases = [c for c in data.cases if c.group in patients]
    found = [{cases[k.a], cases[k.b]} for k in find_links(cases) if k.score >= SAME_FRAME]
    apart = {frozenset(c.name for c in pair) for pair in found if len({c.group for c in pair}) > 1}
    assert len(patients) == 6 and len(cases) > 10
    assert apart == {frozenset(group) for group in listed}


def test_frozen_list_is_what_the_pixels_say(busi):
    cases = find_cases(busi)
    t = group_table(cases, find_links(cases))
    groups = {tuple(g) for _, g in t[t.relation == 'copy'].groupby('group')['name']}
    assert groups == set(busi_near_copies(frames=False))
    assert {tuple(g) for _, g in t.groupby('group')['name']} == set(busi_near_copies())


def test_copies_across_data_sets_are_found_and_written(folder, tmp_path):
    busi = find_data(folder)
    for part in ('original', 'GT'):
        (tmp_path/'UDIAT'/part).mkdir(parents=True)
    for i, c in enumerate(busi.cases[:3]):
        img = resized(np.array(Image.open(c.image).convert('L')), .8)
        Image.fromarray(img).save(tmp_path/'UDIAT'/'original'/f'{i:06}.png')
        Image.open(c.masks[0]).resize(img.shape[::-1]).save(tmp_path/'UDIAT'/'GT'/f'{i:06}.png')
    udiat = find_data(tmp_path/'UDIAT')
    groups = near_copies([*busi.cases, *udiat.cases])
    assert [[c.name for c in g] for g in groups] == [[f'benign ({i + 1})', f'{i:06}'] for i in range(3)]
    again = replace(udiat, cases=udiat.cases + busi.cases[:1])
    found = find_groups(again, tmp_path/'groups.csv')
    assert found == [('000000', 'benign (1)')] == read_groups(tmp_path/'groups.csv')
    assert find_data(folder, groups=tmp_path/'groups.csv').groups == (('000000', 'benign (1)'),)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 25), st.data())
def test_links_join_groups_as_brute_force_says(n, data):
    number = st.integers(0, n - 1)
    drawn = data.draw(st.lists(st.tuples(number, number, st.floats(0, 1)), max_size=40))
    links = [Link(a, b, 9, 1., 0., 1., 0., s) for a, b, s in drawn]
    reach = np.eye(n, dtype=int)
    for k in links:
        if k.score >= SAME_FRAME:
            reach[k.a, k.b] = reach[k.b, k.a] = 1
    for _ in range(5):
        reach = (reach @ reach > 0).astype(int)
    want = sorted({tuple(np.flatnonzero(row)) for row in reach if row.sum() > 1})
    assert [tuple(g) for g in group_links(n, links)] == want


def test_the_links_that_were_once_two_groups():
    links = [Link(a, b, 9, 1., 0., 1., 0., 1.) for a, b in [(0, 5), (1, 4), (2, 3), (3, 4), (4, 5)]]
    assert group_links(6, links) == [[0, 1, 2, 3, 4, 5]]
