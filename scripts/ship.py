"""Make a finished BUSI run the model that comes with the package: 16-bit weights, split, scores of those weights, model card.

    python scripts/ship.py results-folder-of-the-run --data BUSI     e.g. runs/busi-small-grouped
"""
import argparse
import os
import shutil
from pathlib import Path

from busiseg_nb.core import atomic_path, read_json, write_json
from busiseg_nb.models import count_parameters, load_model, save_model
from busiseg_nb.runs import rescore

CARD = """# The model that comes with busiseg_nb

A small U-Net ({encoder} encoder, {parameters:,} parameters, {size:.1f} MB of 16-bit safetensors) that marks benign and malignant
lesions in breast-ultrasound images of any size. **For research and teaching. It is not a medical device: not for diagnosis, not for clinical use.**

## Data and training

- Trained from random weights on the training part ({train} images) of the grouped split in `split.json` of BUSI (Al-Dhabyani et al., Data in
  Brief 28, 104863, 2020), by `{command}`; the weights of epoch {epoch} of {epochs}, chosen by the IoU on the validation part ({valid} images).
- No near-copy of a test image was trained on: groups of near-copies (`busi_near_copies.csv`) were kept on one side of the split.
- Input: one gray channel, scaled so that its longer side is {resize} pixels; output: probabilities of background, benign and malignant at the image's own size.

## Scores on the {test} test images

{convention}.

| class | IoU | Dice | precision | recall |
|---|---|---|---|---|
{rows}

Area under the ROC curve of the tumour probability over all pixels: {auc:.4f}. To measure these again: `busiseg test --data BUSI_FOLDER`.

## Limits

- One data set, without patient identifiers: near-copies of images are kept apart, patients may not be.
- About a third of all tumour pixels are missed (recall above), and benign and malignant are confused: trust the outline more than the class, and neither for a patient.
- Masks of near-copies within BUSI agree with each other only to a pooled Dice of 0.87 (`results/analysis/leakage.json`), so no score far above that would mean much.
- Other scanners, other organs, text or calipers burned into the image: untested.
"""


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument('run', type=Path); ap.add_argument('--data', default=os.environ.get('BUSI_ROOT')); ap.add_argument('--out', type=Path, default=Path('busiseg_nb/data/model'))
    args = ap.parse_args(); run = read_json(args.run/'results.json')
    model = load_model(args.run/'best')
    with atomic_path(args.out, folder=True) as tmp:
        save_model(model, tmp/'m', half=True, run=run['name'], licence='Apache-2.0', use='research only, not for clinical use')
        for f in ('model.safetensors', 'config.json'): os.chmod(tmp/'m'/f, 0o644); (tmp/'m'/f).replace(tmp/f)
        shutil.rmtree(tmp/'m'); shutil.copy(args.run/'split.json', tmp/'split.json')
        _, scores = rescore(tmp, args.data)
        keep = ('name', 'profile', 'model', 'encoder_weights', 'split', 'config', 'data', 'split_sizes', 'split_sha256', 'training', 'convention', 'provenance')
        write_json({**{k: run[k] for k in keep}, 'scores': scores}, tmp/'results.json')
        pct = lambda m, c: '{:.1f} % [{:.1f}, {:.1f}]'.format(*(100*v for v in scores[f'{m}_{c}']))
        rows = '\n'.join(f'| {c} | ' + ' | '.join(pct(m, c) for m in ('iou', 'dice', 'precision', 'recall')) + ' |' for c in ('background', 'benign', 'malignant', 'mean', 'tumour'))
        (tmp/'README.md').write_text(CARD.format(
            encoder=model.encoder_name.removeprefix('tu-'), parameters=count_parameters(model)[0], size=(tmp/'model.safetensors').stat().st_size/1e6, command=run['provenance']['command'],
            epoch=run['training']['best_epoch'], epochs=run['training']['epochs'], resize=model.resize, convention=run['convention'][0].upper() + run['convention'][1:],
            rows=rows, auc=scores['roc_auc'][0], **run['split_sizes']), encoding='utf-8')
    print((args.out/'README.md').read_text())


if __name__ == '__main__': main()
