"""Which conventions can have produced the published scores: the pixel shares of BUSI behind notebook 06's
last section.

    python analysis/conventions.py --data BUSI_FOLDER
"""
import sys
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.common import arguments, finish, write_result
from busiseg_nb.core import CLASSES, fail
from busiseg_nb.dataset import find_cases, fingerprint
from busiseg_nb.metrics import background_floor, prevalence_from

PAPER = {'resnext50': (.8906, .7144, .5901), 'resnext101': (.8727, .6834, .6111),
         'unet': (.8410, .6533, .5479)}
REPORT = dict(accuracy=.9685, precision=.8080, recall=.7317)
ROUNDING = 5e-5     # published scores have four digits
DRAWS = 10_000


def count_labels(labels):
    "(N,3) int pixels of each class of labels (N,pixels)"
    return np.stack([(labels == k).sum(-1) for k in range(3)], -1)


def label_pixels(case, size=256):
    "(3,) pixels of each class of the image, and (tiles,3) of its padded tiles: the union of all its masks"
    mask = np.logical_or.reduce([np.asarray(Image.open(file).convert('L')) > 0 for file in case.masks])
    mask = mask.astype(np.uint8)*(CLASSES.index(case.label) if case.label in CLASSES else 0)
    height, width = mask.shape
    padded = np.pad(mask, ((0, -height % size), (0, -width % size)))
    tiles = padded.reshape(padded.shape[0]//size, size, padded.shape[1]//size, size).swapaxes(1, 2)
    return count_labels(mask.reshape(1, -1))[0], count_labels(tiles.reshape(-1, size*size))


def spread(x):
    "Smallest, 2.5 %, median, 97.5 % and largest value"
    quantiles = np.percentile(x, [0, 2.5, 50, 97.5, 100]).round(5).tolist()
    return dict(zip(('min', 'low', 'median', 'high', 'max'), quantiles, strict=True))


def tumour_above(tiles, least):
    "(N,) bool: which of the tiles (N,3) have more than the share `least` of tumour"
    return tiles[:, 1:].sum(1) > least*tiles.sum(1)


def background_share(counts):
    "(N,) share of background in each row"
    return counts[:, 0]/counts.sum(1)


def pooled_background(counts):
    "Share of background of all rows together"
    return counts[:, 0].sum()/counts.sum()


def all_background(images, tiles, lesion):
    "Background IoU of predicting background everywhere, i.e. the share of background, under each convention"
    every = np.concatenate(tiles)
    sick = np.concatenate([t for t, has_lesion in zip(tiles, lesion, strict=True) if has_lesion])
    shares = {'pooled, images, normals in': pooled_background(images),
              'pooled, images, normals out': pooled_background(images[lesion]),
              'mean over images, normals in': background_share(images).mean(),
              'mean over images, normals out': background_share(images[lesion]).mean(),
              'pooled, padded tiles, normals in': pooled_background(every),
              'pooled, padded tiles, normals out': pooled_background(sick),
              'mean over tiles, normals in': background_share(every).mean(),
              'mean over tiles, normals out': background_share(sick).mean(),
              'pooled, only tiles with tumour': pooled_background(every[tumour_above(every, 0)]),
              'pooled, only tiles with over 5 % tumour': pooled_background(every[tumour_above(every, .05)])}
    return {name: round(float(share), 5) for name, share in shares.items()}


def counted_units(images, tiles, lesion):
    "What a test may count: name -> (images,3), the pixels (or shares) that each image adds"
    all_tiles = np.stack([t.sum(0) for t in tiles])
    some, much = (np.stack([t[tumour_above(t, least)].sum(0) for t in tiles]) for least in (0, .05))
    return {'images, normals in': images,
            'images, normals out': images*lesion[:, None],
            'images resized to one size': images/images.sum(1, keepdims=True),
            'padded tiles, normals in': all_tiles,
            'padded tiles, normals out': all_tiles*lesion[:, None],
            'only tiles with tumour': some,
            'only tiles with over 5 % tumour': much}


def random_tests(images, tiles, lesion, n_test, seed=0):
    "What random tests of `n_test` images hold, and the lowest background IoU that the published IoUs allow"
    rng = np.random.default_rng(seed)
    units = counted_units(images, tiles, lesion)
    drawn = {unit: {'tumour_share': [], **{f'floor_{model}': [] for model in PAPER}} for unit in units}
    for _ in range(DRAWS):
        pick = rng.permutation(len(images))[:n_test]
        for unit, counts in units.items():
            pixels = counts[pick].sum(0)
            shares = pixels/pixels.sum()
            drawn[unit]['tumour_share'].append(shares[1:].sum())
            for model, scores in PAPER.items():
                drawn[unit][f'floor_{model}'].append(background_floor(scores[1:], shares[1:]))
    result = {}
    for unit, values in drawn.items():
        possible = {model: np.array(values[f'floor_{model}']) <= scores[0] + ROUNDING
                    for model, scores in PAPER.items()}
        result[unit] = {name: spread(x) for name, x in values.items()}
        result[unit]['draws_where_the_published_background_is_possible'] = {
            model: int(one.sum()) for model, one in possible.items()}
        result[unit]['draws_where_all_three_are_possible'] = int(np.all(list(possible.values()), 0).sum())
    return result


def report_tests(images, lesion, n_test=156, seed=1):
    "Tumour share of random tests of the report's size (images of one size) beside what its scores imply"
    rng = np.random.default_rng(seed)
    tumour = 1 - background_share(images)
    either = (-ROUNDING, ROUNDING)
    corners = [prevalence_from(REPORT['accuracy'] + a, REPORT['precision'] + p, REPORT['recall'] + r)
               for a in either for p in either for r in either]
    result = {'implied_tumour_share': round(prevalence_from(**REPORT), 5),
              'implied_within_rounding': [round(min(corners), 5), round(max(corners), 5)]}
    for name, shares in (('normals in', tumour), ('normals out', tumour[lesion])):
        means = np.array([shares[rng.permutation(len(shares))[:n_test]].mean() for _ in range(DRAWS)])
        result[name] = {**spread(means),
                        'mean': round(float(shares.mean()), 5),
                        'draws_at_or_below_the_implied_share': int((means <= max(corners)).sum())}
    return result


def main():
    parser = arguments(__doc__, 'results/analysis/conventions.json')
    parser.add_argument('--out', dest='json', help='the same as --json')
    args = parser.parse_args()
    if not args.data:
        parser.error('--data: the BUSI folder is missing')
    cases = find_cases(args.data)
    if not any(c.label == 'normal' for c in cases) or len(cases) < 156:
        fail(args.data, f'holds {len(cases)} cases', 'pass the whole BUSI folder')
    pixels = [label_pixels(case) for case in cases]
    images, tiles = np.stack([image for image, _ in pixels]), [tile for _, tile in pixels]
    lesion = np.array([case.label != 'normal' for case in cases])
    total = images.sum(0)
    result = {'images': len(cases),
              'tiles': sum(map(len, tiles)),
              'pixels': dict(zip(CLASSES, total.tolist(), strict=True)),
              'draws': DRAWS,
              'share_of_pixels': dict(zip(CLASSES, (total/total.sum()).round(5).tolist(), strict=True)),
              'all_background': all_background(images, tiles, lesion),
              'pooled_background_floor': random_tests(images, tiles, lesion, 78),
              'report': report_tests(images, lesion)}
    write_result(result, args.json, command='analysis/conventions.py --data <BUSI>', data=fingerprint(cases),
                 published={'paper': PAPER, 'report': REPORT})


if __name__ == '__main__':
    finish(main)
