"""Make a finished run the model that comes with the package.

    python scripts/ship.py RUN --data BUSI --also BUSBRA --test BREAST
    python scripts/ship.py --beside RUN --data BUSI --also BUSBRA --test BREAST
    python scripts/ship.py --again --data BUSI --also BUSBRA --test BREAST

The second form puts the network of another run, made with --split shipped, beside those that ship already:
the probabilities are averaged. Validation images choose the operating points and the temperature. The test
images and the data sets under --test are then scored once, and choose nothing. Written are 16-bit weights,
split, scores and the model card.
"""

import argparse
import os
import shutil
import textwrap
from collections import Counter
from pathlib import Path

import numpy as np

from busiseg_nb.core import CLASSES, fail
from busiseg_nb.dataset import find_data, join
from busiseg_nb.files import atomic_path, read_json, write_csv, write_json
from busiseg_nb.inference import fit_familiar, picture_statistics, unlikeness
from busiseg_nb.intervals import interval_text
from busiseg_nb.leakage import leak_share
from busiseg_nb.machine import provenance, thread_map
from busiseg_nb.metrics import (
    SCORES,
    choose_points,
    fit_temperature,
    operating_curve,
    score_records,
    unbin,
)
from busiseg_nb.metrics import lesion_table as lesion_frame
from busiseg_nb.models import count_parameters, ensemble, load_model, save_model
from busiseg_nb.preprocessing import load_image
from busiseg_nb.runs import (
    group_names,
    images_to_test,
    lesion_scores,
    main_scores,
    score_cases,
)
from busiseg_nb.splits import load_split

OFFSETS = (0.0, 0.4, 0.8)     # of the background's logit, tried on validation images
WATCHED = ('lesion_dice', 'lesions_missed', 'normal_alarms')
SIZES = {'small': (0, .02), 'medium': (.02, .1), 'large': (.1, 1.01)}     # largest lesion / image
FACTS = {'scanner': 'device', 'BI-RADS': 'BIRADS', 'tissue': 'tissue'}   # kind of subgroup -> fact
GROUPED = ('lesion_dice', 'lesions_missed', 'image_agreement')
FEWEST = 10     # images of a subgroup that is told
UNTOLD = 'not available'
KEPT = ('name', 'profile', 'model', 'encoder_weights', 'split', 'config', 'data', 'split_sizes',
        'split_sha256', 'training', 'convention', 'provenance')     # of the run
COST = 0.01     # of mean lesion Dice, that a lesion less missed may cost

BESIDE = """ Its probabilities are averaged with those of {}, made by {}."""
MADE = '`{}` (epoch {} of {}, averaged with the last)'

TORN = """ The list of BUS-BRA's patients who are copies of others is newer than this split: by it {} of the
  validation images and {} of the test images are of a patient who is in training too."""

CARD = """# The model that comes with busiseg_nb

{what} ({encoder} encoder, {parameters:,} parameters, {size:.1f} MB of 16-bit safetensors) to mark
benign and malignant lesions in breast-ultrasound images of any size. **For research and teaching. It is not
a medical device: not for diagnosis, not for clinical use.**

## Data and training

- {weights}
- Trained on the training part of BUSI (Al-Dhabyani et al., Data in Brief 28, 104863, 2020) and of BUS-BRA
  (Gómez-Flores et al., Medical Physics 2023), {train} images, by `{command}`. The weights are those of
  epoch {epoch} of {epochs}, which the IoU on the validation parts ({valid} images) chose{averaged}.{beside}
- Patients (BUS-BRA) and groups of near-copies (BUSI) stand on one side of the split, `split.json`.{torn}
- Input: one gray channel, its longer side {resize} pixels. Output: probabilities of background, benign and
  malignant at the image's own size.
- BrEaST (Pawłowska et al., Scientific Data 2024) is of another hospital. No image of it was used to train
  or to choose anything: it is read only by the last step, which scores it.

## Scores

Intervals are 95 %, from a bootstrap over groups of near-copies or patients. The default operating point
keeps a lesion whose peak probability is at least {peak:.3f}; validation images chose it.

{tables}

## Limits

- {limits}
- Benign and malignant are confused: trust the outline more than the class, and neither for a patient.
- Other organs, and scanners unlike those of the three data sets: not measured."""

SUBGROUPS = """### By lesion size, scanner, BI-RADS and tissue

At the default operating point. A lesion is small below 2 % of the image, and large from 10 % on. The
scanner is a column of BUS-BRA, the tissue one of BrEaST. Subgroups of fewer than 10 images are left out.

{}"""


def options():
    "What the command line says"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('run', type=Path, nargs='?')
    parser.add_argument('--again', action='store_true', help='only score the model that ships once more')
    parser.add_argument('--beside', type=Path, help='a finished run, whose network joins those that ship')
    parser.add_argument('--data', default=os.environ.get('BUSI_ROOT'), help='the first data set of the run')
    parser.add_argument('--also', nargs='*', default=[], help='its further data sets')
    parser.add_argument('--test', nargs='*', default=[], help='data sets that the run has not seen')
    parser.add_argument('--average', type=Path, help='a model to average the weights with')
    parser.add_argument('--begun', type=Path, help='JSON about an earlier run whose weights it began with')
    parser.add_argument('--out', type=Path, default=Path('busiseg_nb/data/model'))
    args = parser.parse_args()
    if bool(args.run) + args.again + bool(args.beside) != 1:
        parser.error('give a finished run, --beside a finished run, or --again')
    return args


def plain_paths(value):
    "The same, with paths of one machine by their last part"
    if isinstance(value, dict):
        return {k: plain_paths(v) for k, v in value.items()}
    if isinstance(value, list):
        return [plain_paths(v) for v in value]
    return f'.../{Path(value).name}' if isinstance(value, str) and os.path.isabs(value) else value


def part_of(split, data, name):
    "The cases of one part that are of one data set"
    return [c for c in split[name] if c.name in data.by_name]


def torn(split, groups):
    "How many images of the validation and the test part have one of their group in training"
    found = {}
    for part in ('valid', 'test'):
        share = leak_share({'train': split['train'], 'test': split[part]}, groups)
        found[part] = round(share*len(split[part]))
    return found


def looks(cases):
    "(N,40) statistics of the pictures of these cases"
    return np.stack(thread_map(lambda c: picture_statistics(load_image(c.image)), cases))


def average(model, other):
    "The mean of the weights and statistics of two networks of one form, in the first of them"
    theirs = other.state_dict()
    own = {key: tensor for key, tensor in model.state_dict().items() if tensor.is_floating_point()}
    means = {key: (tensor + theirs[key])/2 for key, tensor in own.items()}
    model.load_state_dict(means, strict=False)
    return model


def averaged_with(run, folder):    # of the run that ships; of the other model, or None
    "What the weights are averaged with, in words"
    if folder is None:
        return None
    return 'the last epoch' if folder.resolve() == (run/'last').resolve() else folder.parent.name


def validated(model, split, several):
    "Lesion records of the validation images, and the histogram of their tumour probabilities"
    records, histogram = [], 0
    for data in several:
        scored = score_cases(model, part_of(split, data, 'valid'), group_names(data.cases, data.groups))
        records += scored.lesions
        histogram = histogram + scored.histogram
    return records, histogram


def biases(model):
    "Of the last layer of each network of a model: they hold what background gets beside what was learnt"
    return [net.segmentation_head[0].bias.data for net in (model, *model.others)]


def widest(dice):    # offset -> mean lesion Dice, not rounded
    "The largest offset that costs no more than `COST`"
    return max(offset for offset, value in dice.items() if value >= max(dice.values()) - COST)


def lean(model, split, several):
    """Lower the background's logit by what costs little Dice of the lesions on validation images

    Trained on few normal images and judged by overlap, a network may lean to either side; elsewhere a missed
    lesion costs more than a wide outline. The last layer's bias holds the offset, so nothing else changes."""
    began, tries, found = [float(bias[0]) for bias in biases(model)], {}, {}
    def told(scores):
        return {name: round(value, 4) for name, value in scores.items()}
    def lower(offset):
        for bias, value in zip(biases(model), began, strict=True):
            bias[0] = value - offset

    for offset in OFFSETS:
        lower(offset)
        found[offset] = validated(model, split, several)
        tries[offset] = score_records(found[offset][0], WATCHED)
        print('offset', offset, told(tries[offset]), flush=True)
    offset = widest({offset: scores['lesion_dice'] for offset, scores in tries.items()})
    lower(offset)
    return {'offset': offset, 'tries': {o: told(t) for o, t in tries.items()}}, found[offset]


def chosen(records, histogram, split):
    "Notes that training and validation images choose, and the operating curve"
    normal = sum(not r['truths'] for r in records)
    temperature, _ = fit_temperature(*unbin(histogram))
    peaks = lesion_frame(records)
    peaks = peaks[peaks.kind == 'predicted']
    lesion = fit_temperature(peaks.peak.to_numpy(), peaks.hit.to_numpy(bool), shift=True)
    notes = {
        'operating_points': choose_points(records),
        'temperature': round(temperature, 4),
        'lesion_calibration': [round(v, 4) for v in lesion],
        'chosen_on': f'{len(records)} validation images, {normal} of them normal',
        'familiar': fit_familiar(looks(split['train']), looks(split['valid'])),
    }
    return notes, operating_curve(records)


def kinds(record, facts):
    "What an image with a lesion counts under: [(kind, value), …]"
    share = max(t['area'] for t in record['truths'])/np.prod(record['shape'])
    size = next(name for name, (least, most) in SIZES.items() if least <= share < most)
    said = [(kind, facts[fact]) for kind, fact in FACTS.items() if facts.get(fact, UNTOLD) != UNTOLD]
    return [('lesion size', size), *said]


def subgroups(records, data, peak):
    "Scores by lesion size and by what the data set's table says of its images, in order"
    found = {}
    for record in records:
        if record['truths']:
            for key in kinds(record, data.by_name[record['case']].facts):
                found.setdefault(key, []).append(record)
    told = [(key, some) for key, some in found.items() if len(some) >= FEWEST]
    order = ['lesion size', *FACTS, *SIZES]
    def place(row):
        (kind, value), _ = row
        return order.index(kind), order.index(value) if value in SIZES else 0, value
    rows = []
    for (kind, value), some in sorted(told, key=place):
        scores = lesion_scores(some, peak=peak)
        rows.append({'kind': kind, 'value': value, 'images': len(some), **{k: scores[k] for k in GROUPED}})
    return rows


def measured(model, data, cases):
    "Scores of these images, at the default operating point where it matters"
    scored = score_cases(model, cases, group_names(data.cases, data.groups))
    points = model.meta.get('operating_points', {'default': 0.0})
    at = {name: lesion_scores(scored.lesions, peak=threshold) for name, threshold in points.items()}
    unlike = [unlikeness(x, model.meta['familiar']) > 1 for x in looks(cases)]
    return {
        'unlike_training': round(float(np.mean(unlike)), 4),
        'fingerprint': data.fingerprint,
        'images': len(cases),
        'labels': dict(Counter(case.label for case in cases)),
        'scores': main_scores(scored.counts, scored.histogram),
        'lesion_scores': at['default'],
        'points': at,
        'subgroups': subgroups(scored.lesions, data, points['default']),
    }


def row(name, scores):
    "A line of a table of scores"
    cells = [
        interval_text(scores[f'{score}_{name}'], digits=1) for score in ('iou', 'dice', 'precision', 'recall')
    ]
    return f'| {name} | ' + ' | '.join(cells) + ' |'


def pixel_table(scores):
    "IoU, Dice, precision and recall of each class, in per cent"
    lines = [row(name, scores) for name in (*CLASSES, 'mean', 'tumour')]
    return '\n'.join(
        ['| class | IoU, % | Dice, % | precision, % | recall, % |', '|---|--:|--:|--:|--:|', *lines]
    )


def score_cell(name, found):
    "A score with its interval, shares in per cent"
    if found[0] is None:
        return '–'
    share = SCORES[name].unit == 'share'
    return interval_text(found, scale=100 if share else 1, digits=1 if share else 2) + (' %' if share else '')


def lesion_table(tested):
    "Scores of lesions and images, a column for each data set"
    names = list(tested)
    lines = [
        '| score | ' + ' | '.join(f'{n}, {tested[n]["images"]} images' for n in names) + ' |',
        '|---|' + '--:|' * len(names),
    ]
    for score in tested[names[0]]['lesion_scores']:
        cells = [score_cell(score, tested[n]['lesion_scores'][score]) for n in names]
        if any(c != '–' for c in cells):
            lines.append(f'| {SCORES[score].text} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def point_table(tested):
    "What the operating points do"
    lines = [
        '| data | operating point | lesions missed | normal images alarmed | false positives per image |',
        '|---|---|--:|--:|--:|',
    ]
    for data, found in tested.items():
        for point, scores in found['points'].items():
            cells = [score_cell(s, scores[s]) for s in ('lesions_missed', 'normal_alarms', 'false_positives')]
            lines.append(f'| {data} | {point} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def subgroup_table(found):
    "The scores of subgroups of one data set, at the default operating point, in per cent"
    lines = [
        '| images with a lesion | number | mean Dice, % | lesions missed, % | right class, where found, % |',
        '|---|--:|--:|--:|--:|',
    ]
    for row in found['subgroups']:
        cells = [score_cell(name, row[name]).removesuffix(' %') for name in GROUPED]
        lines.append('| ' + ' | '.join([f'{row["kind"]}: {row["value"]}', str(row['images']), *cells]) + ' |')
    return '\n'.join(lines)


def limits(tested):
    "What the scores say about trust, in a sentence for each data set"
    words = []
    for data, found in tested.items():
        scores = found['lesion_scores']
        text = f'{data}: {score_cell("lesions_missed", scores["lesions_missed"])} of the lesions are missed'
        if scores['normal_alarms'][0] is not None:
            alarms = score_cell('normal_alarms', scores['normal_alarms'])
            text += f', and {alarms} of the normal images raise an alarm'
        unlike = f'{100*found["unlike_training"]:.1f} % of the pictures count as unlike the training'
        words.append(f'{text}. {unlike}.')
    return '\n- '.join(words)


def as_typed(command):
    "A recorded command as a reader would type it"
    words, out = command.replace('cli.py', 'busiseg').replace('.../', '').split(), []
    while words:
        word = words.pop(0)
        if word in ('--runs', '--cache', '--name'):
            words.pop(0)
        elif word not in ('--resume', '--no-progress'):
            out.append(word)
    return ' '.join(out)


def beginning(model, begun):
    "What the weights began with, in words"
    if begun:
        return begun['text']
    weights = model.meta.get('encoder_weights')
    return f'The encoder began with {f"weights of {weights}" if weights else "random weights"}.'


def company(others):
    "The networks that the first is averaged with, in a sentence"
    if not others:
        return ''
    number = 'another network' if len(others) == 1 else f'{len(others)} other networks'
    made = [(as_typed(o['command']), o['training']['best_epoch'], o['training']['epochs']) for o in others]
    return BESIDE.format(number, ' and by '.join(MADE.format(*one) for one in made))


def card(run, model, tested, size):
    "The model card, in Markdown"
    other, others = run['averaged_with'], run.get('beside', [])
    tables = [
        f'### {data}, {found["images"]} images\n\n{pixel_table(found["scores"])}'
        for data, found in tested.items()
    ]
    tables.append(f'### Lesions, at the default operating point\n\n{lesion_table(tested)}')
    tables.append(f'### Operating points\n\n{point_table(tested)}')
    parts = [f'#### {data}\n\n{subgroup_table(found)}' for data, found in tested.items()]
    tables.append(SUBGROUPS.format('\n\n'.join(parts)))
    text = CARD.format(
        what=f'{model.members} U-Nets' if model.members > 1 else 'A U-Net',
        beside=company(others),
        encoder=model.encoder_name.removeprefix('tu-').removeprefix('timm-'),
        parameters=count_parameters(model)[0],
        size=size / 1e6,
        weights=beginning(model, run['begun']),
        command=as_typed(run['provenance']['command']),
        epoch=run['training']['best_epoch'],
        epochs=run['training']['epochs'],
        averaged=f', averaged with those of {other}' if other else '',
        resize=model.resize,
        peak=model.meta['operating_points']['default'],
        tables='\n\n'.join(tables),
        limits=limits(tested),
        torn=TORN.format(*run['torn'].values()) if any(run['torn'].values()) else '',
        **run['split_sizes'],
    )
    return '\n'.join(wrapped(line) for line in text.replace('\n  ', ' ').split('\n')) + '\n'


def wrapped(line):
    "A list item or sentence in lines of 108 columns; tables stay"
    if len(line) <= 108 or line.startswith('|'):
        return line
    indent = '  ' if line.startswith('- ') else ''
    return textwrap.fill(line, 108, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def of_run(args):
    "The network of a finished run, and what is recorded of it"
    run = plain_paths(read_json(args.run/'results.json'))
    model = load_model(args.run/'best')
    other = averaged_with(args.run, args.average)
    if other:
        model = average(model, load_model(args.average))
    begun = read_json(args.begun) if args.begun else None
    return model, {**{k: run[k] for k in KEPT}, 'begun': begun, 'averaged_with': other, 'beside': []}


def with_another(args):
    "The networks that ship and that of another run, and what is recorded of them"
    theirs, ours = (read_json(folder/'split.json')['sha256'] for folder in (args.beside, args.out))
    if theirs != ours:
        fail(args.beside, f'has another split ({theirs}) than the model that ships ({ours})',
             'train it with --split shipped')
    known, run = read_json(args.out/'results.json'), plain_paths(read_json(args.beside/'results.json'))
    model = load_model(args.out)
    for bias in biases(model):
        bias[0] += model.meta['background_offset']
    last = average(load_model(args.beside/'best'), load_model(args.beside/'last'))
    beside = {'name': run['name'], 'training': run['training'], 'command': run['provenance']['command'],
              'averaged_with': 'the last epoch'}
    kept = {k: known[k] for k in (*KEPT, 'begun', 'averaged_with')}
    return ensemble([model, last]), {**kept, 'beside': [*known.get('beside', []), beside]}


def put(model, folder, **notes):
    "Write 16-bit weights and configuration into a folder that has other files too"
    made = save_model(model, folder/'m', half=True, **notes)
    for name in ('model.safetensors', 'config.json'):
        os.chmod(made/name, 0o644)
        (made/name).replace(folder/name)
    shutil.rmtree(made)


def ship(args, folder, several, split, source):
    "Choose on validation and write the weights into a folder: what is known before the test"
    model, result = with_another(args) if args.beside else of_run(args)
    leaning, (records, histogram) = lean(model, split, several)
    notes, curve = chosen(records, histogram, split)
    notes['background_offset'] = leaning['offset']
    use = {'licence': 'Apache-2.0', 'use': 'research only, not for clinical use'}
    put(model, folder, run=result['name'], **use, **notes)
    shutil.copy(source/'split.json', folder/'split.json')
    write_csv(curve.round(5), folder/'operating_curve.csv')
    result |= {'leaning': leaning, **{k: v for k, v in notes.items() if k != 'familiar'}}
    write_json(result, folder/'results.json')
    return result


def again(args, folder):
    "The model that ships, as it is, in a folder: what was known before the test"
    shutil.copytree(args.out, folder, dirs_exist_ok=True)
    put(load_model(args.out), folder)
    return read_json(folder/'results.json')


def test(folder, several):
    "The model in a folder, and its scores by data set"
    model, tested = load_model(folder), {}
    for data in several:
        cases, _ = images_to_test(folder, data)
        found = tested[data.layout] = measured(model, data, cases)
        means = {k: round(v[0], 3) for k, v in found['lesion_scores'].items() if v[0] is not None}
        print(data.layout, means, flush=True)
    return model, tested


def main():
    "Choose on validation, write the weights, test once, write the card"
    args = options()
    several = [find_data(where) for where in (args.data, *args.also)]
    source = args.run or args.out       # whose split it is
    together = join(several)
    split = load_split(source/'split.json', together.cases)
    with atomic_path(args.out, folder=True) as tmp:
        result = again(args, tmp) if args.again else ship(args, tmp, several, split, source)
        result['torn'] = torn(split, together.groups)
        model, tested = test(tmp, [*several, *map(find_data, args.test)])
        first = next(iter(tested.values()))
        scores = {k: first[k] for k in ('scores', 'lesion_scores', 'images')}
        write_json({**result, **scores, 'tested': tested, 'shipped': provenance()}, tmp/'results.json')
        text = card(result, model, tested, (tmp/'model.safetensors').stat().st_size)
        (tmp/'README.md').write_text(text, encoding='utf-8')
    print(text)


if __name__ == '__main__':
    main()
