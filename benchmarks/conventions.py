"Which conventions can have produced the published scores: the pixel shares of BUSI behind notebook 06's last section"
import argparse, sys
from pathlib import Path

import numpy as np
from PIL import Image

from busiseg_nb.core import CLASSES, fail, provenance, write_json
from busiseg_nb.dataset import find_cases, fingerprint
from busiseg_nb.metrics import background_floor, prevalence_from

PAPER = {'resnext50': (.8906, .7144, .5901), 'resnext101': (.8727, .6834, .6111), 'unet': (.8410, .6533, .5479)}
REPORT = dict(accuracy=.9685, precision=.8080, recall=.7317)
DRAWS = 10_000


def label_pixels(case, size=256):
    "(3,) pixels of each class of the image, and (tiles,3) of its padded tiles: the union of all its masks (any mode)"
    m = np.logical_or.reduce([np.asarray(Image.open(f).convert('L')) > 0 for f in case.masks])
    m = m.astype(np.uint8)*(CLASSES.index(case.label) if case.label in CLASSES else 0)
    h, w = m.shape
    pad = np.pad(m, ((0, -h % size), (0, -w % size)))
    t = pad.reshape(pad.shape[0]//size, size, pad.shape[1]//size, size).swapaxes(1, 2).reshape(-1, size*size)
    count = lambda a: np.stack([(a == k).sum(-1) for k in range(3)], -1)
    return count(m.reshape(1, -1))[0], count(t)


def spread(x):
    "Smallest, 2.5 %, median, 97.5 % and largest value"
    return dict(zip(('min', 'low', 'median', 'high', 'max'), np.percentile(x, [0, 2.5, 50, 97.5, 100]).round(5).tolist()))


def all_background(images, tiles, lesion):
    "Background IoU of predicting background everywhere, i.e. the share of background, under each convention"
    share = lambda n: n[:, 0]/n.sum(1)
    pooled = lambda n: n[:, 0].sum()/n.sum()
    sick, T = lesion, np.concatenate(tiles)
    sickT = np.concatenate([t for t, s in zip(tiles, lesion) if s])
    with_tumour = T[T[:, 1:].sum(1) > 0]
    out = {'pooled, images, normals in': pooled(images), 'pooled, images, normals out': pooled(images[sick]),
           'mean over images, normals in': share(images).mean(), 'mean over images, normals out': share(images[sick]).mean(),
           'pooled, padded tiles, normals in': pooled(T), 'pooled, padded tiles, normals out': pooled(sickT),
           'mean over tiles, normals in': share(T).mean(), 'mean over tiles, normals out': share(sickT).mean(),
           'pooled, only tiles with tumour': pooled(with_tumour), 'pooled, only tiles with over 5 % tumour': pooled(T[T[:, 1:].sum(1) > .05*T.sum(1)])}
    return {k: round(float(v), 5) for k, v in out.items()}


def random_tests(images, tiles, lesion, n_test, seed=0):
    "What random tests of `n_test` of the images hold, and the lowest pooled background IoU that the published class IoUs allow"
    rng, N = np.random.default_rng(seed), len(images)
    tile_sum = np.stack([t.sum(0) for t in tiles])
    hit, full = (np.stack([t[t[:, 1:].sum(1) > least*t.sum(1)].sum(0) for t in tiles]) for least in (0, .05))
    share = images/images.sum(1, keepdims=True)
    units = {'images, normals in': images, 'images, normals out': images*lesion[:, None], 'images resized to one size': share,
             'padded tiles, normals in': tile_sum, 'padded tiles, normals out': tile_sum*lesion[:, None], 'only tiles with tumour': hit,
             'only tiles with over 5 % tumour': full}
    out = {k: {'tumour_share': [], **{f'floor_{m}': [] for m in PAPER}} for k in units}
    for _ in range(DRAWS):
        pick = rng.permutation(N)[:n_test]
        for k, x in units.items():
            p = x[pick].sum(0); p = p/p.sum()
            out[k]['tumour_share'].append(p[1:].sum())
            for m, s in PAPER.items(): out[k][f'floor_{m}'].append(background_floor(s[1:], p[1:]))
    res = {k: {a: spread(b) for a, b in v.items()} for k, v in out.items()}
    for k, v in out.items():
        res[k]['draws_where_the_published_background_is_possible'] = {
            m: int((np.array(v[f'floor_{m}']) <= PAPER[m][0] + 5e-5).sum()) for m in PAPER}
        res[k]['draws_where_all_three_are_possible'] = int(np.all([np.array(v[f'floor_{m}']) <= PAPER[m][0] + 5e-5 for m in PAPER], 0).sum())
    return res


def report_tests(images, lesion, n_test=156, seed=1):
    "Tumour share of random tests of the report's size, images resized to one size, beside the share that its scores imply"
    rng, share = np.random.default_rng(seed), 1 - images[:, 0]/images.sum(1)
    corner = [prevalence_from(REPORT['accuracy'] + a, REPORT['precision'] + p, REPORT['recall'] + r)
              for a in (-5e-5, 5e-5) for p in (-5e-5, 5e-5) for r in (-5e-5, 5e-5)]
    out = {'implied_tumour_share': round(prevalence_from(**REPORT), 5), 'implied_within_rounding': [round(min(corner), 5), round(max(corner), 5)]}
    for name, s in (('normals in', share), ('normals out', share[lesion])):
        x = np.array([s[rng.permutation(len(s))[:n_test]].mean() for _ in range(DRAWS)])
        out[name] = {**spread(x), 'mean': round(float(s.mean()), 5), 'draws_at_or_below_the_implied_share': int((x <= max(corner)).sum())}
    return out


def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--data', required=True, help='the BUSI folder')
    p.add_argument('--out', default='results/analysis/conventions.json')
    a = p.parse_args(argv)
    cases = find_cases(a.data)
    if not any(c.label == 'normal' for c in cases) or len(cases) < 156: fail(a.data, f'holds {len(cases)} cases', 'pass the whole BUSI folder')
    n = [label_pixels(c) for c in cases]
    images, tiles = np.stack([i for i, _ in n]), [t for _, t in n]
    lesion = np.array([c.label != 'normal' for c in cases])
    write_json({'images': len(cases), 'tiles': sum(map(len, tiles)), 'pixels': dict(zip(CLASSES, images.sum(0).tolist())), 'draws': DRAWS,
        'share_of_pixels': dict(zip(CLASSES, (images.sum(0)/images.sum()).round(5).tolist())),
        'all_background': all_background(images, tiles, lesion),
        'pooled_background_floor': random_tests(images, tiles, lesion, 78), 'report': report_tests(images, lesion),
        'provenance': provenance("benchmarks/conventions.py --data <BUSI>", data=fingerprint(cases), published={'paper': PAPER, 'report': REPORT})}, a.out)
    print(f'wrote {a.out}')


if __name__ == '__main__':
    try: main()
    except ValueError as e: print(e, file=sys.stderr); sys.exit(2)
