"""Make a finished BUSI run the model that comes with the package: weights, split, scores, model card.

    python scripts/ship.py results-folder-of-the-run --data BUSI     e.g. runs/busi-small-grouped
"""
import argparse
import os
import shutil
from pathlib import Path

from busiseg_nb.files import atomic_path, read_json, write_json
from busiseg_nb.models import count_parameters, load_model, save_model
from busiseg_nb.runs import rescore
from docsite.commands import runnable

KEPT = ('name', 'profile', 'model', 'encoder_weights', 'split', 'config', 'data', 'split_sizes',
        'split_sha256', 'training', 'convention', 'provenance')      # of the run's results.json
CLASSES = ('background', 'benign', 'malignant', 'mean', 'tumour')
METRICS = ('iou', 'dice', 'precision', 'recall')

CARD = """# The model that comes with busiseg_nb

A small U-Net ({encoder} encoder, {parameters:,} parameters, {size:.1f} MB of 16-bit safetensors) that marks
benign and malignant lesions in breast-ultrasound images of any size. **For research and teaching. It is not a
medical device: not for diagnosis, not for clinical use.**

## Data and training

- Trained from {start} weights on the training part ({train} images) of the {split} split in `split.json` of
  BUSI (Al-Dhabyani et al., Data in Brief 28, 104863, 2020), by `{command}`. The weights are those of epoch
  {epoch} of {epochs}, chosen by the IoU on the validation part ({valid} images).
- No near-copy of a test image was trained on: groups of near-copies (`busi_near_copies.csv`) stayed on one
  side of the split.
- Input: one gray channel, scaled so that its longer side is {resize} pixels. Output: probabilities of
  background, benign and malignant at the image's own size.

## Scores on the {test} test images

{convention}.

| class | IoU | Dice | precision | recall |
|---|--:|--:|--:|--:|
{rows}

Area under the ROC curve of the tumour probability over all pixels: {auc:.4f}. To measure these again:
`busiseg test --data BUSI_FOLDER`.

## Limits

- One data set, without patient identifiers: near-copies of images are kept apart, patients may not be.
- {missed:.0f} % of all tumour pixels are missed (recall of the tumour, above), and benign and malignant are
  confused: trust the outline more than the class, and neither for a patient.
- Masks of near-copies within BUSI agree with each other to a pooled Dice of 0.87
  (`results/analysis/leakage.json`). This says how well the annotators of this data set agree with themselves.
  It is no bound on a model.
- Other scanners, other organs, text or calipers burned into the image: untested.
"""


def percent(value) -> str:    # [value, low, high] in 0..1
    "'73.1 % [70.1, 76.0]'"
    return '{:.1f} % [{:.1f}, {:.1f}]'.format(*(100*v for v in value))


def card(run: dict, scores: dict, model, size: int) -> str:    # size: of the weights, bytes
    "The model card"
    rows = [f'| {c} | ' + ' | '.join(percent(scores[f'{m}_{c}']) for m in METRICS) + ' |' for c in CLASSES]
    training, convention = run['training'], run['convention']
    return CARD.format(
        encoder=model.encoder_name.removeprefix('tu-'), parameters=count_parameters(model)[0], size=size/1e6,
        start=run['encoder_weights'] or 'random', split=run["split"],
        command=runnable(run['provenance']['command']),
        epoch=training['best_epoch'], epochs=training['epochs'], resize=model.resize,
        convention=convention[0].upper() + convention[1:], rows='\n'.join(rows), auc=scores['roc_auc'][0],
        missed=100 - 100*scores['recall_tumour'][0], **run['split_sizes'])


def ship(folder: Path, data, out: Path):    # of the run; the data set; the model's folder
    "Write the model's folder from a run"
    run, model = read_json(folder/'results.json'), load_model(folder/'best')
    with atomic_path(out, folder=True) as tmp:
        note = {'run': run['name'], 'licence': 'Apache-2.0', 'use': 'research only, not for clinical use'}
        save_model(model, tmp/'m', half=True, **note)
        for name in ('model.safetensors', 'config.json'):
            os.chmod(tmp/'m'/name, 0o644)
            (tmp/'m'/name).replace(tmp/name)
        shutil.rmtree(tmp/'m')
        shutil.copy(folder/'split.json', tmp/'split.json')
        _, scores = rescore(tmp, data)
        write_json({**{k: run[k] for k in KEPT}, 'scores': scores}, tmp/'results.json')
        text = card(run, scores, model, (tmp/'model.safetensors').stat().st_size)
        (tmp/'README.md').write_text(text, encoding='utf-8')


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('run', type=Path)
    parser.add_argument('--data', default=os.environ.get('BUSI_ROOT'))
    parser.add_argument('--out', type=Path, default=Path('busiseg_nb/data/model'))
    args = parser.parse_args()
    ship(args.run, args.data, args.out)
    print((args.out/'README.md').read_text(encoding='utf-8'))


if __name__ == '__main__':
    main()
