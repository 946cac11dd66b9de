"""Tiles, overlap, flips or the whole image: what each does to the scores, the seams and the time of one model.

    python benchmarks/seams.py --data BUSI_FOLDER --split split.json --model MODEL_FOLDER

Every way predicts the same test images of the split. Scores are of tumour against background (benign and malignant taken
together), pooled over all pixels at native size, normals in; beside them the mean IoU over the model's classes. Intervals are
95 % bootstrap intervals over groups of near-copies, and the difference to overlap 0 is taken on the same draws (paired).
'seam' is the mean step of the tumour probability across the borders of overlap 0's tiles, divided by the mean step
elsewhere: 1 is no seam. Times are of the prediction alone, the ways taking turns image by image, after one round to warm up.
"""
import argparse
import os
import time

os.environ.setdefault('OMP_NUM_THREADS', str(os.cpu_count() or 1))

import numpy as np
import torch
from tqdm.auto import tqdm

from busiseg_nb.core import provenance, write_json
from busiseg_nb.dataset import find_cases, fingerprint, load_split, split_hash
from busiseg_nb.inference import predict_proba, seam_discontinuity
from busiseg_nb.intervals import bootstrap
from busiseg_nb.metrics import Counts, confusion, counts_frame, counts_from_frame, dice, iou, pool
from busiseg_nb.models import load_model
from busiseg_nb.preprocessing import load_case, resized_shape
from busiseg_nb.runs import group_names, is_busi, read_groups

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


def measure(model, cases, groups, ways):
    "Per way: counts table, seam sums and seconds"
    import pandas as pd
    C, frames = max(2, model.classes), {w: [] for w in ways}
    seams, seconds = {w: [] for w in ways}, {w: [] for w in ways}
    img, _ = load_case(cases[0])
    for kw in ways.values(): predict_proba(model, img, **kw)
    for n, case in enumerate(tqdm(cases, unit='image')):
        img, mask = load_case(case)
        mask = mask if C > 2 else (mask > 0).astype(np.uint8)
        names = list(ways)
        for w in names[n % len(names):] + names[:n % len(names)]:
            kw, t = ways[w], time.perf_counter()
            p = predict_proba(model, img, **kw)
            seconds[w].append(time.perf_counter() - t)
            grid = resized_shape(img.shape, None if kw.get('resize') == 'native' else model.resize)
            seams[w].append(seam_discontinuity(1 - p[..., 0], model.tile_size, grid))
            frames[w].append(counts_frame(confusion(p.argmax(2), mask, C), 'image', cases=[case.name], labels=[case.label],
                                          groups=[groups.get(case.name, case.name)]))
    return {w: (pd.concat(f, ignore_index=True), np.array(seams[w]), np.array(seconds[w])) for w, f in frames.items()}


def scores(counts, tumour, classes, names):
    "The four numbers of pooled counts: IoU and Dice of tumour, mean IoU over classes, IoU of each class"
    def f(c):
        i, d = iou(pool(c))[0], dice(pool(c))[0]
        return np.array([i[tumour], d[tumour], np.nanmean(i[classes])])
    return f


def summary(results, ways, n):
    "Scores with intervals, paired differences to the first way, seams and times"
    out, base = {}, None
    for w, (df, seams, seconds) in results.items():
        c, index, names = counts_from_frame(df, 'image')
        names = list(names)
        tumour, classes = names.index('tumour'), [k for k, x in enumerate(names) if x != 'tumour' or len(names) == 2]
        f, groups = scores(c, tumour, classes, names), index.group.to_numpy()
        keys, triple = ('iou_tumour', 'dice_tumour', 'iou_mean'), bootstrap(f, c, groups=groups, n=n)
        base = c if base is None else base
        both = Counts(*(np.concatenate([a, b], 1) for a, b in zip(c, base)))      # the same draws for both: paired
        half = lambda x, s: Counts(*(a[..., s] for a in x))
        k = len(names)
        diff = bootstrap(lambda x: f(half(x, slice(0, k))) - f(half(x, slice(k, None))), both, groups=groups, n=n)
        across, elsewhere = np.nanmean(seams, 0) if np.isfinite(seams[:, 0]).any() else (np.nan, np.nan)
        r = lambda t, i: [None if v is None or not np.isfinite(v[i]) else round(float(v[i]), 5) for v in t]
        out[w] = {'arguments': ways[w], **{key: r(triple, i) for i, key in enumerate(keys)},
                  'difference': {key: r(diff, i) for i, key in enumerate(keys)},
                  'seam': None if not np.isfinite(across) else round(float(across/elsewhere), 3),
                  'images_with_borders': int(np.isfinite(seams[:, 0]).sum()),
                  'ms_per_image': round(float(np.median(seconds)*1000), 2), 'ms_mean': round(float(seconds.mean()*1000), 2)}
    return out


if __name__ == '__main__':
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument('--data', default=os.environ.get('BUSI_ROOT'), required='BUSI_ROOT' not in os.environ)
    ap.add_argument('--split', required=True, help='JSON of a split; its test part is used')
    ap.add_argument('--model', required=True, help='folder of a model')
    ap.add_argument('--limit', type=int, help='use only so many test images, for a trial')
    ap.add_argument('--ways', nargs='*', default=list(WAYS), choices=list(WAYS))
    ap.add_argument('--bootstrap', type=int, default=2000)
    ap.add_argument('--json', default='results/analysis/seams.json')
    a = ap.parse_args()
    model, cases = load_model(a.model), find_cases(a.data)
    split = load_split(a.split, cases)
    test = split['test'] if not a.limit else [split['test'][i] for i in np.unique(np.linspace(0, len(split['test']) - 1, a.limit).astype(int))]
    ways = {w: WAYS[w] for w in dict.fromkeys(['tiles', *a.ways])}
    groups = group_names(cases, read_groups() if is_busi(cases) else [])
    out = summary(measure(model, test, groups, ways), ways, a.bootstrap)
    for w, s in out.items():
        print(f"{w:26} IoU {s['iou_tumour'][0]:.4f} [{s['iou_tumour'][1]:.4f}, {s['iou_tumour'][2]:.4f}]  Dice {s['dice_tumour'][0]:.4f}  "
              f"difference {s['difference']['iou_tumour'][0]:+.4f} [{s['difference']['iou_tumour'][1]:+.4f}, {s['difference']['iou_tumour'][2]:+.4f}]  "
              f"seam {s['seam'] or float('nan'):.2f}  {s['ms_per_image']:.1f} ms")
    write_json({'model': {'tile_size': model.tile_size, 'resize': model.resize, 'encoder': model.encoder_name, **model.meta},
                'images': len(test), 'limit': a.limit, 'split_sha256': split_hash(split), 'threads': torch.get_num_threads(), 'ways': out,
                'provenance': provenance(data_fingerprint=fingerprint(cases))}, a.json)
