"""Tiles, overlap, flips or the whole image: what each does to the scores, the seams and the time of one
model.

    python analysis/seams.py --data BUSI_FOLDER --split split.json --model MODEL_FOLDER

Every way predicts the same test images of the split. Scores are of tumour against background (benign and
malignant taken together), pooled over all pixels at native size, normals in; beside them the mean IoU over
the model's classes. Intervals are 95 % bootstrap intervals over groups of near-copies, and the difference to
overlap 0 is taken on the same draws (paired). 'seam' is the mean step of the tumour probability across the
borders of overlap 0's tiles, divided by the mean step elsewhere: 1 is no seam. Times are of the prediction
alone, the ways taking turns image by image, after one round to warm up.
"""
import os
import sys
import time
from pathlib import Path

os.environ.setdefault('OMP_NUM_THREADS', str(os.cpu_count() or 1))

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.common import arguments, check_data, finish, rotated, write_result
from busiseg_nb.dataset import find_data
from busiseg_nb.files import read_json
from busiseg_nb.inference import predict_proba, seam_discontinuity
from busiseg_nb.intervals import bootstrap
from busiseg_nb.metrics import Counts, confusion, counts_frame, counts_from_frame, dice, iou, pool
from busiseg_nb.models import load_model
from busiseg_nb.preprocessing import load_case, resized_shape
from busiseg_nb.runs import group_names
from busiseg_nb.splits import load_part

WAYS = {  # name: arguments of `predict_proba`
    'tiles': {},
    'tiles, hflip': dict(tta='hflip'),
    'tiles, all flips': dict(tta='all'),
    'overlap 0.25': dict(overlap=.25),
    'overlap 0.5': dict(overlap=.5),
    'overlap 0.5, mean': dict(overlap=.5, blend='mean'),
    'overlap 0.5, hflip': dict(overlap=.5, tta='hflip'),
    'whole': dict(whole=True),
    'whole, hflip': dict(whole=True, tta='hflip'),
    'native tiles': dict(resize='native'),
    'native tiles, overlap 0.5': dict(resize='native', overlap=.5),
    'native whole': dict(resize='native', whole=True)}
KEYS = ('iou_tumour', 'dice_tumour', 'iou_mean')


def measure(model, cases, groups, ways):
    "Per way: counts table, seam sums and seconds"
    classes, frames = max(2, model.classes), {way: [] for way in ways}
    seams, seconds = {way: [] for way in ways}, {way: [] for way in ways}
    img, _ = load_case(cases[0])
    for options in ways.values():
        predict_proba(model, img, **options)
    for turn, case in enumerate(tqdm(cases, unit='image')):
        img, mask = load_case(case)
        mask = mask if classes > 2 else (mask > 0).astype(np.uint8)
        about = dict(cases=[case.name], labels=[case.label], groups=[groups.get(case.name, case.name)])
        for way in rotated(ways, turn):
            start = time.perf_counter()
            prob = predict_proba(model, img, **ways[way])
            seconds[way].append(time.perf_counter() - start)
            working = resized_shape(img.shape, None if ways[way].get('resize') == 'native' else model.resize)
            seams[way].append(seam_discontinuity(1 - prob[..., 0], model.tile_size, working))
            frames[way].append(counts_frame(confusion(prob.argmax(2), mask, classes), 'image', **about))
    return {way: (pd.concat(frame, ignore_index=True), np.array(seams[way]), np.array(seconds[way]))
            for way, frame in frames.items()}


def scorer(tumour, classes):
    "A function of counts (N,C): IoU and Dice of tumour, mean IoU over classes, all pooled"
    def score(counts):
        pooled = pool(counts)
        ious, dices = iou(pooled)[0], dice(pooled)[0]
        return np.array([ious[tumour], dices[tumour], np.nanmean(ious[classes])])
    return score


def paired_score(score, n_classes):
    "The same for counts (N,2C) of two ways side by side: the difference of their scores, on the same draws"
    def difference(both):
        first = Counts(*(a[..., :n_classes] for a in both))
        second = Counts(*(a[..., n_classes:] for a in both))
        return score(first) - score(second)
    return difference


def rounded(triple, i):
    "Value, low and high of one score; None where it is undefined"
    return [None if values is None or not np.isfinite(values[i]) else round(float(values[i]), 5)
            for values in triple]


def seam_ratio(seams):
    "Mean step across the borders divided by that elsewhere; None where no image has borders"
    if not np.isfinite(seams[:, 0]).any():
        return None
    across, elsewhere = np.nanmean(seams, 0)
    return round(float(across/elsewhere), 3) if np.isfinite(across) else None


def summary(results, ways, draws):
    "Scores with intervals, paired differences to the first way, seams and times"
    out, base = {}, None
    for way, (frame, seams, seconds) in results.items():
        counts, index, names = counts_from_frame(frame, 'image')
        names, groups = list(names), index.group.to_numpy()
        classes = [k for k, name in enumerate(names) if name != 'tumour' or len(names) == 2]
        score = scorer(names.index('tumour'), classes)
        base = counts if base is None else base
        both = Counts(*(np.concatenate([a, b], 1) for a, b in zip(counts, base, strict=True)))
        found = bootstrap(score, counts, groups=groups, n=draws)
        difference = bootstrap(paired_score(score, len(names)), both, groups=groups, n=draws)
        out[way] = {'arguments': ways[way],
                    **{key: rounded(found, i) for i, key in enumerate(KEYS)},
                    'difference': {key: rounded(difference, i) for i, key in enumerate(KEYS)},
                    'seam': seam_ratio(seams),
                    'images_with_borders': int(np.isfinite(seams[:, 0]).sum()),
                    'ms_per_image': round(float(np.median(seconds)*1000), 2),
                    'ms_mean': round(float(seconds.mean()*1000), 2)}
    return out


def show(ways):
    "One line a way"
    for way, s in ways.items():
        (value, low, high), d = s['iou_tumour'], s['difference']['iou_tumour']
        print(f"{way:26} IoU {value:.4f} [{low:.4f}, {high:.4f}]  Dice {s['dice_tumour'][0]:.4f}  "
              f"difference {d[0]:+.4f} [{d[1]:+.4f}, {d[2]:+.4f}]  "
              f"seam {s['seam'] or float('nan'):.2f}  {s['ms_per_image']:.1f} ms")


def main():
    parser = arguments(__doc__, 'results/analysis/seams.json')
    parser.add_argument('--split', required=True, help='JSON of a split; its test part is used')
    parser.add_argument('--model', required=True, help='folder of a model')
    parser.add_argument('--limit', type=int, help='use only so many test images, for a trial')
    parser.add_argument('--ways', nargs='*', default=list(WAYS), choices=list(WAYS))
    parser.add_argument('--bootstrap', type=int, default=2000)
    args = parser.parse_args()
    check_data(parser, args)
    model, data = load_model(args.model), find_data(args.data)
    test = load_part(args.split, data, 'test')
    if args.limit:
        test = [test[i] for i in np.unique(np.linspace(0, len(test) - 1, args.limit).astype(int))]
    ways = {way: WAYS[way] for way in dict.fromkeys(['tiles', *args.ways])}
    groups = group_names(data.cases, data.groups)
    out = summary(measure(model, test, groups, ways), ways, args.bootstrap)
    show(out)
    about = {'tile_size': model.tile_size, 'resize': model.resize, 'encoder': model.encoder_name,
             **{k: v for k, v in model.meta.items() if k != 'familiar'}}
    result = {'model': about, 'images': len(test), 'limit': args.limit,
              'split_sha256': read_json(args.split)['sha256'],
              'threads': torch.get_num_threads(), 'ways': out}
    write_result(result, args.json, data_fingerprint=data.fingerprint)


if __name__ == '__main__':
    finish(main)
