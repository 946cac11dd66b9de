"A data set of one's own: two folders and classes.json, any classes, any start"
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from beside import whole
from busiseg_nb.core import CLASSES, BusisegError
from busiseg_nb.dataset import find_data, find_mask_cases, read_class_mask, read_classes
from busiseg_nb.files import read_json, write_json
from busiseg_nb.images import save_mask
from busiseg_nb.inference import predict_mask
from busiseg_nb.metrics import confusion, confusion_logits, counts_frame, counts_from_frame
from busiseg_nb.models import build_model, ensemble, load_model, save_model
from busiseg_nb.phantom import make_xray_phantom
from busiseg_nb.preprocessing import build_cache, load_case
from busiseg_nb.runs import (
    How,
    class_scores,
    divide,
    make_profile,
    read_result,
    recorded,
    rescore,
    save_rescored,
    seen_before,
    split_file,
    start_model,
    take_over,
)
from busiseg_nb.runs import run as train
from busiseg_nb.splits import load_split, save_split, split_data, split_hash

TINY = 'tu-mobilenetv3_small_050'
FOUR = {'background': [0, 0, 0], 'cyst': [255, 0, 0], 'nodule': [0, 255, 0], 'vessel': [0, 0, 255]}


def one(seed, size=(70, 90)):
    "A gray image and class numbers 0 to 3: squares whose brightness is their class"
    rng = np.random.default_rng(seed)
    mask = np.zeros(size, np.uint8)
    for k in (1, 2, 3):
        if (seed + k) % 3 or seed % 7 == 0:
            y, x = rng.integers(0, size[0] - 22), rng.integers(0, size[1] - 22)
            mask[y:y + 22, x:x + 22] = k
    return (30 + 60*mask + rng.integers(0, 20, size)).astype(np.uint8), mask


@pytest.fixture
def four(tmp_path):
    "Colour masks, images of several formats"
    root = tmp_path/'own'
    (root/'images').mkdir(parents=True)
    (root/'masks').mkdir()
    for i in range(16):
        img, mask = one(i)
        im = Image.fromarray(img)
        im = im.convert('RGB') if i % 3 == 0 else im
        im.save(root/'images'/f'{i:03}{(".png", ".jpg", ".tif", ".bmp")[i % 4]}')
        Image.fromarray(np.array(list(FOUR.values()), np.uint8)[mask]).save(root/'masks'/f'{i:03}.png')
    (root/'classes.json').write_text(json.dumps(FOUR))
    return root


def test_from_folder_to_mask(four, tmp_path):
    names = list(FOUR)
    how = How('four', tmp_path/'runs', tmp_path/'cache', progress=False, bf16=False, say=lambda s: None)
    p = make_profile('own', model=TINY, tile=64, epochs=2, bs=4, lr=3e-3, fractions=(.5, .25, .25))
    first = train(four, p, 'none', replace(how, minutes=1e-6))
    assert first.result == {'finished': False, 'epochs_done': 1} and not first.finished
    r = train(four, p, 'none', replace(how, resume=True)).result
    run = tmp_path/'runs'/'four'
    assert sorted(p.name for p in run.iterdir()) == [
        'best', 'counts.csv', 'history.csv', 'last', 'lesions.json', 'results.json', 'resume.pt',
        'split.json']
    assert r['classes'] == names and r['split_sizes'] == {'train': 8, 'valid': 4, 'test': 4}
    assert not r['data']['is_busi']
    assert read_json(run/'results.json')['scores'] == r['scores']
    measures, columns = ('iou', 'dice', 'precision', 'recall'), (*names, 'mean', 'foreground')
    assert {f'{m}_{n}' for m in measures for n in columns} | {'accuracy_foreground'} <= set(r['scores'])
    assert list(class_scores(r).index) == [*names, 'mean']
    mean = np.mean([r['scores'][f'iou_{n}'][0] for n in names])                  # without the union
    assert np.isclose(r['scores']['iou_mean'][0], mean, atol=2e-6)
    history = pd.read_csv(run/'history.csv')
    assert len(history) == 2 and {'valid_iou', *(f'valid_iou_{n}' for n in names)} <= set(history)
    model = load_model(run/'best')
    assert model.class_names == names and model.classes == 4 and model.tile_size == 64
    split = load_split(run/'split.json', find_data(four).cases)
    total = np.zeros((1, 4, 4), int)                       # the scores are those of these masks
    for c in split['test']:
        img, true = load_case(c)
        pred = predict_mask(model, img)
        assert pred.shape == true.shape == (70, 90) and pred.dtype == np.uint8 and pred.max() < 4
        total += confusion(pred, true, 4)
    t = np.diagonal(total[0])
    iou = t/(total[0].sum(0) + total[0].sum(1) - t)
    assert np.allclose(iou, [r['scores'][f'iou_{n}'][0] for n in names], atol=2e-3)
    again = rescore(run, four, False)
    old = recorded(run, find_data(four), again.own)['scores']
    assert again.own and all(abs(again.scores[k][0] - old[k][0]) < 2e-3 for k in old if k.startswith('iou'))
    with pytest.raises(BusisegError, match='already holds a finished run'):
        train(four, p, 'none', how)
    overlapping = rescore(run, four, False, overlap=.5)
    save_rescored(overlapping, run, tmp_path/'kept')
    kept = read_result(tmp_path/'kept'/'results.json')
    assert (kept['name'], kept['scored_again'], kept['config']['overlap']) == ('kept', 'four', .5)
    total = np.zeros((1, 4, 4), int)
    for c in split['test']:
        img, true = load_case(c)
        total += confusion(predict_mask(model, img, overlap=.5), true, 4)
    t = np.diagonal(total[0])
    iou = t/(total[0].sum(0) + total[0].sum(1) - t)
    assert np.allclose(iou, [kept['scores'][f'iou_{n}'][0] for n in names], atol=2e-3)
    counts = pd.read_csv(tmp_path/'kept'/'counts.csv', dtype={'case': str})
    assert set(counts['case']) == {c.name for c in split['test']}
    with pytest.raises(BusisegError, match='already holds results'):
        save_rescored(overlapping, run, tmp_path/'kept')
    nxt, took = start_model(['background', 'a'], run)      # a run's folder starts the next one
    assert took['new'] == ['segmentation_head.0.weight', 'segmentation_head.0.bias'] and nxt.tile_size == 64


def test_command_line(tmp_path):
    from typer.testing import CliRunner

    from busiseg_nb.cli import app
    root = make_xray_phantom(tmp_path/'x', 12, 64)
    run = tmp_path/'runs'/'x'/'best'
    ran = CliRunner().invoke(app, ['train', '--data', str(root), '--from', 'none', '--model', TINY,
        '--name', 'x', '--epochs', '1', '--tile', '64', '--runs', str(tmp_path/'runs'),
        '--cache', str(tmp_path/'cache'), '--no-progress'])
    assert ran.exit_code == 0, ran.output
    assert 'calcification' in ran.output and f'--model {run}' in ran.output.replace('\n', '')
    ran = CliRunner().invoke(app, ['predict', str(root/'images'/'x001.png'), '--model', str(run),
                                   '-o', str(tmp_path/'out')])
    assert ran.exit_code == 0, ran.output
    masks = [p for p in (tmp_path/'out').rglob('*.png') if 'mask' in p.name]
    assert masks
    assert Image.open(masks[0]).size == (64, 64) and np.asarray(Image.open(masks[0])).max() < 3


WANT = np.array([[0, 1, 2, 3], [3, 2, 1, 0]], np.uint8)
NUMBERS = dict(zip(FOUR, range(4), strict=True))
GRAYS = dict(zip(FOUR, (255, 0, 100, 200), strict=True))
RGB = {k: tuple(v) for k, v in FOUR.items()}
gray = np.array([255, 0, 100, 200], np.uint8)[WANT]
rgb = np.array(list(FOUR.values()), np.uint8)[WANT]


@pytest.mark.parametrize('name, image, classes', [
    ('numbers.png', Image.fromarray(WANT), NUMBERS), ('numbers.tif', Image.fromarray(WANT), NUMBERS),
    ('gray.bmp', Image.fromarray(gray), GRAYS),
    ('gray_as_rgb.png', Image.fromarray(np.stack([gray]*3, -1)), GRAYS),
    ('gray_alpha.png', Image.fromarray(np.stack([gray, gray], -1)), GRAYS),
    ('colour.png', Image.fromarray(rgb), RGB), ('colour.webp', Image.fromarray(rgb), RGB),
    ('colour_alpha.png', Image.fromarray(np.dstack([rgb, gray])), RGB),
    ('colour_as_palette.png', Image.fromarray(rgb).quantize(4), RGB),
    ('mixed.png', Image.fromarray(rgb), {**RGB, 'background': 0}),
    ('gray_as_palette.png', Image.fromarray(gray).convert('RGB').quantize(4), GRAYS)])
def test_mask_formats(tmp_path, name, image, classes):
    image.save(tmp_path/name, **({'lossless': True} if name.endswith('webp') else {}))
    got = read_class_mask(tmp_path/name, classes, (2, 4))
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, WANT)


def test_indexed_and_one_bit_masks(tmp_path):
    save_mask(WANT, tmp_path/'i.png', list(RGB.values())*2)
    np.testing.assert_array_equal(read_class_mask(tmp_path/'i.png', NUMBERS), WANT)
    np.testing.assert_array_equal(read_class_mask(tmp_path/'i.png', RGB), WANT)       # its colours
    bits = WANT > 1
    Image.fromarray(bits).save(tmp_path/'b.png')
    assert Image.open(tmp_path/'b.png').mode == '1'
    for classes in ({'background': 0, 'a': 1}, {'background': 0, 'a': 255}):
        np.testing.assert_array_equal(read_class_mask(tmp_path/'b.png', classes), bits)


def test_bad_settings(tmp_path):
    root = make_xray_phantom(tmp_path/'x', 6, 32)
    how = How('x', tmp_path/'runs', progress=False, say=lambda s: None)
    with pytest.raises(BusisegError, match='too few: none for the'):
        train(root, make_profile('own', fractions=(.98, .01, .01)), 'none', how)
    (tmp_path/'g.csv').write_text('group,name\n1,x001\n1,x009\n')
    with pytest.raises(BusisegError, match='no case named x009'):
        split_data(find_data(root, groups=tmp_path/'g.csv'))


def test_all_background_is_a_note(tmp_path):
    root = make_xray_phantom(tmp_path/'x', 6, 32)
    Image.new('L', (32, 32)).save(root/'masks'/'x001.png')
    cases, names, notes = find_mask_cases(root)
    assert sum('2 masks are all background: x000.png, x001.png' in n for n in notes) == 1
    assert next(c for c in cases if c.name == 'x001').label == 'background'


def test_labels_split_and_groups(four, tmp_path):
    (four/'g.csv').write_text('group,name\n' + ''.join(f'{i//2},{i:03}\n' for i in range(16)))
    d = find_data(four, groups=four/'g.csv')
    masks = {c.name: load_case(c)[1] for c in d.cases}
    seen = {n: sum((m == k).any() for m in masks.values()) for k, n in enumerate(d.classes)}
    for c in d.cases:
        there = [n for k, n in enumerate(d.classes) if k and (masks[c.name] == k).any()]
        assert seen[c.label] == min(seen[n] for n in there)
    for seed in range(3):
        split = split_data(d, 'grouped', (.5, .25, .25), seed)
        at = {c.name: p for p, cs in split.items() for c in cs}
        assert len(at) == 16 and all(at[f'{2*i:03}'] == at[f'{2*i + 1:03}'] for i in range(8))
        assert all(c.values for cs in split.values() for c in cs)   # still cases whose masks hold classes
    (four/'classes.json').write_text(json.dumps({**FOUR, 'extra': [9, 9, 9]}))
    assert find_data(four).fingerprint != d.fingerprint                 # classes are data: another cache


def test_cache_holds_classes(four, tmp_path):
    d = find_data(four)
    cache = build_cache(d.cases, tmp_path/'c', 64, channels=1, progress=False)
    img, mask = load_case(d.cases[4])
    tile = cache.masks[cache.rows([d.cases[4].name])[0]]
    np.testing.assert_array_equal(tile, mask[:64, :64])


def test_busi_layout(phantom):
    d = find_data(phantom)
    assert d.classes == CLASSES and not d.is_busi and d.groups == () and len(d.cases) == 17


@pytest.mark.parametrize('was, now', [(3, 4), (1, 2), (2, 2), (4, 3)])
def test_what_fits_is_taken_over_exactly(tmp_path, was, now):
    torch.manual_seed(0)
    src = build_model(TINY, None, classes=was, in_channels=1, tile_size=96, resize=320)
    for b in src.buffers():
        if b.is_floating_point():
            b.uniform_(.5, 2)
    save_model(src, tmp_path/'m')
    torch.manual_seed(1)
    net, took = start_model([f'class{i}' for i in range(now)], tmp_path/'m')
    a, b = src.state_dict(), net.state_dict()
    head = [] if was == now else ['segmentation_head.0.weight', 'segmentation_head.0.bias']
    assert took['new'] == took['unused'] == head and took['taken'] == len(a) - len(head)
    assert all(torch.equal(a[k], b[k]) for k in a if k not in head)
    assert len(b['segmentation_head.0.bias']) == now
    assert (net.in_channels, net.tile_size, net.resize, net.classes) == (1, 96, 320, now)
    net, _ = start_model(['a', 'b'], tmp_path/'m', tile=64, resize=None)
    assert (net.tile_size, net.resize) == (64, None)


def test_another_network_takes_what_fits(tmp_path):
    src = build_model(TINY, None, classes=3, in_channels=1)
    save_model(src, tmp_path/'m')
    net, took = start_model(['a', 'b', 'c'], tmp_path/'m', TINY)      # three channels: the first layer is new
    assert took['new'] == took['unused'] == ['encoder.model.conv_stem.weight']
    other = build_model('resnet18', None, classes=3)
    before = {k: v.clone() for k, v in other.state_dict().items()}
    taken, new, _ = take_over(other, src)
    after = other.state_dict()
    assert all(torch.equal(after[k], src.state_dict()[k]) for k in taken)
    assert all(torch.equal(after[k], before[k]) for k in new)


def test_many_classes():
    rng = np.random.default_rng(0)
    C = 40
    logits = torch.from_numpy(rng.normal(size=(2, C, 9, 11)).astype(np.float32))
    true = rng.integers(0, C, (2, 9, 11))
    want = confusion(logits.argmax(1), true, C)
    np.testing.assert_array_equal(confusion_logits(logits, torch.from_numpy(true)), want.sum(0))
    names = [f'k{i:02}' for i in range(C)]
    df = counts_frame(want, 'image', ['a', 'b'], ['k01', 'k02'], names=names)
    c, index, got = counts_from_frame(df)
    assert got == (*names, 'foreground')
    assert c.tp[:, :C].sum() == np.trace(want.sum(0))
    assert c.fn[0, -1] == ((true[0] > 0) & (logits[0].argmax(0).numpy() == 0)).sum()


def test_busi_counts_are_as_before():
    rng = np.random.default_rng(0)
    for C, names in ((3, CLASSES), (2, ('background', 'tumour'))):
        conf = confusion(rng.integers(0, C, (2, 8, 8)), rng.integers(0, C, (2, 8, 8)), C)
        both = [counts_frame(conf, 'image', ['x', 'y'], ['benign', 'normal'], **kw)
                for kw in ({}, {'names': list(names)})]
        a, b = both
        pd.testing.assert_frame_equal(a, b)
        assert counts_from_frame(a)[2] == (*names, *(['tumour'] if C == 3 else []))


def test_classes_keep_their_order(tmp_path):
    (tmp_path/'c.json').write_text('{"air": 255, "bone": 3, "water": 17}')
    assert list(read_classes(tmp_path/'c.json')) == ['air', 'bone', 'water']


def test_images_that_the_start_was_trained_on_are_told(phantom, tmp_path):
    d = find_data(phantom)
    split, other = split_data(d), split_data(d, seed=1)
    names = {p: [c.name for c in cs] for p, cs in split.items()}
    write_json({'parts': names, 'fingerprint': d.fingerprint}, tmp_path/'run'/'split.json')
    (tmp_path/'run'/'best').mkdir()
    for start in (tmp_path/'run', tmp_path/'run'/'best'):
        assert seen_before(start, d, split) == []
        seen = set(seen_before(start, d, other))
        assert seen == {c.name for c in other['test']} - set(names['test']) != set()
    write_json({'parts': names, 'fingerprint': 'of other data'}, tmp_path/'run'/'split.json')
    assert seen_before(tmp_path/'run', d, other) == []
    parts = [{'fingerprint': 'else'}, {'fingerprint': d.fingerprint}]
    write_json({'data': {'fingerprint': 'both', 'parts': parts}}, tmp_path/'run'/'results.json')
    assert set(seen_before(tmp_path/'run', d, other)) == seen


def test_of_several_networks_the_first_goes_on(tmp_path):
    nets = [build_model('tu-mobilenetv3_small_050', None, decoder_channels=(8,)*5) for _ in range(2)]
    start = save_model(ensemble(nets), tmp_path/'both')
    net, took = start_model(['background', 'benign', 'malignant'], start)
    own, first = net.state_dict(), nets[0].state_dict()
    assert net.members == 1 and took['new'] == took['unused'] == []
    assert own.keys() == first.keys() and all(torch.equal(own[k], first[k]) for k in own)


def test_a_new_network_may_take_the_split_of_the_shipped_model(busi):
    p, both = make_profile('shipped', split='shipped'), [find_data(busi), find_data(whole('BUSBRA'))]
    parts = divide(both, p)
    assert split_hash(parts) == read_json(split_file('shipped'))['sha256']
    assert split_hash(parts) == split_hash(divide(both, p, seed=1, start='none'))
    with pytest.raises(BusisegError, match='unknown cases.*use the data set that it was made of'):
        divide(both[:1], p)


def test_a_run_that_goes_on_keeps_the_split(phantom, tmp_path):
    d, p = find_data(phantom), make_profile('continued')
    (tmp_path/'run').mkdir()
    save_split(split_data(d, seed=5), tmp_path/'run'/'split.json')
    kept = split_hash(divide([d], p, 0, tmp_path/'run'))
    assert kept == split_hash(split_data(d, seed=5)) != split_hash(split_data(d, seed=0))
    for start, whose in ((None, 'a new network'), ('none', 'none'), (tmp_path, str(tmp_path))):
        with pytest.raises(BusisegError, match=f'the split of {whose}: is not known'):
            divide([d], p, 0, start)


def test_the_shipped_model_knows_its_own_split_of_busi(busi):
    d = find_data(busi)
    assert seen_before('shipped', d, split_data(d, seed=0)) == []
    assert len(seen_before('shipped', d, split_data(d, seed=1))) > 50


def test_old_names_answer_with_a_warning(tmp_path):
    import busiseg_nb.own_data as old
    with pytest.warns(DeprecationWarning, match='moved from busiseg_nb.own_data to busiseg_nb.runs'):
        assert old.start_model is start_model
    root = make_xray_phantom(tmp_path/'x', 6, 32)
    with pytest.warns(DeprecationWarning), pytest.raises(BusisegError, match='too few: none for the'):
        old.train_own(root, start='none', fractions=(.98, .01, .01), runs=tmp_path/'runs', progress=False,
                      say=lambda line: None)
