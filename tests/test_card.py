"The card of the model that comes with the package: made by scripts/ship.py from the recorded scores"
import re
from types import SimpleNamespace

import numpy as np
import pytest

from busiseg_nb.files import read_json
from busiseg_nb.metrics import case_scores
from busiseg_nb.models import count_parameters, load_model
from busiseg_nb.predict import default_model
from modules import script

TESTED = read_json(default_model()/'results.json')['tested']


@pytest.mark.parametrize('area, size', [(199, 'small'), (200, 'medium'), (999, 'medium'), (1000, 'large')])
def test_size_is_the_share_of_the_largest_lesion(area, size):
    record = {'truths': [{'area': 10}, {'area': area}], 'shape': [100, 100]}
    said = script('ship').kinds(record, {'device': 'A', 'tissue': 'not available', 'side': 'left'})
    assert said == [('lesion size', size), ('scanner', 'A')]


def test_subgroups_are_told_from_ten_images_on_and_hold_no_normal_image():
    def record(k):
        area = 100 if k < 10 else 0
        area = 5000 if 10 <= k < 19 else area
        truth = np.zeros((100, 100), np.uint8)
        truth.flat[:area] = 1
        nothing = np.eye(3, dtype=np.float32)[np.zeros((100, 100), int)]
        return {'case': f'c{k}', **case_scores(nothing, truth, 'benign' if area else 'normal')}
    records = [record(k) for k in range(40)]
    data = SimpleNamespace(by_name={f'c{k}': SimpleNamespace(facts={}) for k in range(40)})
    rows = script('ship').subgroups(records, data, .5)
    assert [(row['kind'], row['value'], row['images']) for row in rows] == [('lesion size', 'small', 10)]
    assert rows[0]['lesion_dice'][0] == 0 and rows[0]['lesions_missed'][0] == 1


@pytest.mark.parametrize('name', TESTED)
def test_sizes_make_up_the_whole(name):
    found = TESTED[name]
    rows = [row for row in found['subgroups'] if row['kind'] == 'lesion size']
    with_lesion = sum(n for label, n in found['labels'].items() if label != 'normal')
    assert sum(row['images'] for row in rows) == with_lesion
    mean = np.average([row['lesion_dice'][0] for row in rows], weights=[row['images'] for row in rows])
    assert mean == pytest.approx(found['lesion_scores']['lesion_dice'][0], abs=1e-5)


def test_the_card_is_that_of_the_recorded_scores():
    ship, text = script('ship'), (default_model()/'README.md').read_text(encoding='utf-8')
    tables = [ship.lesion_table(TESTED), ship.point_table(TESTED), *map(ship.subgroup_table, TESTED.values())]
    assert all(table in text for table in tables)
    assert re.sub(r'\s+', ' ', ship.limits(TESTED)) in re.sub(r'\s+', ' ', text)


def test_an_offset_costs_what_the_unrounded_scores_say():
    "Rounded to four digits 0.8 would cost a hundredth, which is allowed"
    widest = script('ship').widest
    assert widest({0.: .83984, .4: .8363, .8: .82976}) == .4
    assert widest({0.: .83984, .4: .8363, .8: .82985}) == .8


def test_the_card_names_every_network_beside_the_first():
    company = script('ship').company
    training = {'best_epoch': 10, 'epochs': 12}
    made = [{'command': f'cli.py reproduce --seed {seed} --resume', 'training': training} for seed in (1, 3)]
    assert company([]) == ''
    assert 'another network, made by `busiseg reproduce --seed 1` (epoch 10 of 12' in company(made[:1])
    both = r'2 other networks, made by `.*--seed 1` \(.*\) and by `.*--seed 3` \(.*last\)\.'
    assert re.search(both, company(made))


def test_the_card_counts_the_networks_and_their_parameters():
    text, model = (default_model()/'README.md').read_text(encoding='utf-8'), load_model(default_model())
    size = (default_model()/'model.safetensors').stat().st_size/1e6
    assert f'{count_parameters(model)[0]:,} parameters, {size:.1f} MB' in text
    assert len(read_json(default_model()/'results.json')['beside']) == model.members - 1
