"""Table 3, measured: one model's tiles scored as Keras `segmentation_models` does by default, and as we do.

    python analysis/table3.py --data BUSI_FOLDER --split split.json --model MODEL_FOLDER

The model predicts each whole image of the named parts. Its probabilities are cut again into the paper's tiles
of 256 pixels (padding is background), with the true mask. The tiles are scored hard (the most probable class)
and soft (probabilities), on all tiles, those that hold a lesion, and those with over 5 % of it, in batches of
1, of 16, and all together, in the order of the images (busiseg_nb.metrics.batch_scores).
"""
import os
import sys
from pathlib import Path

os.environ.setdefault('OMP_NUM_THREADS', str(os.cpu_count() or 1))

import numpy as np
from tqdm.auto import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.common import SHIPPED, arguments, check_data, finish, write_result
from busiseg_nb.core import fail
from busiseg_nb.dataset import find_data
from busiseg_nb.files import read_json
from busiseg_nb.inference import predict_proba
from busiseg_nb.metrics import KEEP, batch_scores, tile_sums
from busiseg_nb.models import load_model
from busiseg_nb.preprocessing import load_case
from busiseg_nb.splits import load_part
from busiseg_nb.tiling import tile_image

TILE = 256
BATCHES = (1, 16, 0)     # 0: all tiles together


def paper_tiles(prob,    # (H,W,C) float32 probabilities
                truth):  # (H,W) uint8 classes
    "Tiles of both: (N,256,256,C) float32 and (N,256,256) uint8; what is padded is surely background"
    inside, _ = tile_image(np.ones(truth.shape, np.uint8), TILE)
    probs, _ = tile_image(prob, TILE)
    probs[inside == 0, 0] = 1
    return probs, tile_image(truth, TILE)[0]


def image_sums(prob, truth):
    "Hard and soft sums of one image's tiles: two arrays (N,C,3)"
    tiles = paper_tiles(prob, truth)
    return tile_sums(*tiles), tile_sums(*tiles, soft=True)


def table(hard, soft):
    "Every reading: a list of rows"
    rows = []
    for kind, sums in ((False, hard), (True, soft)):
        for keep in KEEP:
            for batch in BATCHES:
                s = batch_scores(sums, batch, keep)
                rows.append({'soft': kind, 'keep': keep, 'batch': batch, 'tiles': s['tiles'],
                             'iou': [round(float(v), 5) for v in s['iou']],
                             'dice': [round(float(v), 5) for v in s['dice']]})
    return rows


def main():
    parser = arguments(__doc__, 'results/analysis/table3.json')
    parser.add_argument('--split', default=str(SHIPPED/'split.json'), help='JSON of a split')
    parser.add_argument('--parts', nargs='+', default=['valid', 'test'], help='parts of the split to score')
    parser.add_argument('--model', default=str(SHIPPED), help='folder of a model; default the one that ships')
    parser.add_argument('--limit', type=int, help='use only so many images, for a trial')
    args = parser.parse_args()
    check_data(parser, args)
    model, data = load_model(args.model), find_data(args.data)
    if model.classes < 3:
        fail(args.model, 'is binary', 'give a model with three classes')
    chosen = [case for part in args.parts for case in load_part(args.split, data, part)][:args.limit]
    sums = []
    for case in tqdm(chosen, unit='image'):
        image, truth = load_case(case)
        sums.append(image_sums(predict_proba(model, image), truth))
    hard, soft = (np.concatenate(part) for part in zip(*sums, strict=True))
    result = {'model': model.encoder_name, 'meta': model.meta, 'classes': list(model.class_names),
              'images': len(chosen), 'parts': args.parts, 'limit': args.limit,
              'split_sha256': read_json(args.split)['sha256'], 'tile': TILE, 'scores': table(hard, soft)}
    for row in result['scores']:
        name = f"{'soft' if row['soft'] else 'hard'}, {row['keep']}, batch {row['batch'] or 'all'}"
        print(f'{name:28}', ' '.join(f'{100*v:6.1f}' for v in row['iou']), f"{row['tiles']:6d} tiles")
    write_result(result, args.json, data_fingerprint=data.fingerprint)


if __name__ == '__main__':
    finish(main)
