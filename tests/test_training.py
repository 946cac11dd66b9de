"Batches, tables of names, the average of weights, runs in pieces"
import numpy as np
import pandas as pd
import pytest
import torch
from fastai.callback.core import Callback

from busiseg_nb import training
from busiseg_nb.core import BusisegError, seed_everything
from busiseg_nb.dataset import find_cases
from busiseg_nb.metrics import fastai_metrics
from busiseg_nb.models import build_model
from busiseg_nb.preprocessing import build_cache
from busiseg_nb.splits import split_cases
from busiseg_nb.training import EMA, MONITORS, SCHEDULES, TileDL, get_dls, get_learner, read_resume, train

HOW = {'bf16': False, 'lr': 1e-3}


@pytest.fixture(scope='module')
def parts(phantom, tmp_path_factory):
    "A cache of small tiles, one an image, and a split"
    cases = find_cases(phantom)
    folder = tmp_path_factory.mktemp('parts')/'cache'
    cache = build_cache(cases, folder, size=32, resize=32, channels=1, progress=False)
    return cache, split_cases(cases, seed=0)


@pytest.fixture
def dls(parts):
    return get_dls(*parts, 4, device='cpu')


def small(seed=0):
    seed_everything(seed)
    return build_model('tu-mobilenetv3_small_050', None, in_channels=1, decoder_channels=(8,)*5)


def same(a, b):
    return all(torch.equal(b.state_dict()[key], value) for key, value in a.state_dict().items())


def test_each_tile_once_an_epoch_in_an_order_of_its_own(parts):
    cache, _ = parts
    dl = TileDL(cache, bs=4, shuffle=True, seed=3)
    orders = []
    for epoch in (0, 1, 0):
        dl.epoch = epoch
        orders.append(dl.get_idxs())
    assert all(sorted(order) == list(range(len(cache.images))) for order in orders)
    assert np.array_equal(orders[0], orders[2]) and not np.array_equal(orders[0], orders[1])
    other = dl.new(shuffle=False, bs=2)
    assert other.bs == 2 and other.seed == 3 and np.array_equal(other.get_idxs(), np.arange(dl.n))
    with pytest.raises(TypeError):
        TileDL(cache, shuffled=True)


def test_an_epoch_is_as_long_as_the_weights_say(parts):
    cache, split = parts
    rows = cache.rows([case.name for case in split['train']])
    for share in (.25, 1, 2):
        dls = get_dls(cache, split, 4, weight=lambda case, share=share: share)
        order = dls.train.get_idxs()
        assert len(order) == round(share*len(rows)) and len(dls.train) == -(-len(order)//4)
        assert np.bincount(order).max() == max(1, share) and order.max() < len(rows)
        assert sum(len(x) for x, _ in dls.train) == len(order)


@pytest.mark.parametrize('course, line', [
    ({'monitor': 'dice'}, "monitor 'dice': is not known; use one of valid_loss, valid_iou, report, last"),
    ({'monitor': 'valid_iou'}, "monitor 'valid_iou': needs valid_iou, which is not measured"),
    ({'schedule': 'cosine'}, "schedule 'cosine': is not known; use one of constant, one-cycle"),
    ({'ema': 1.5}, 'ema=1.5: is no decay'), ({'minutes': 0}, '0 minutes')])
def test_unknown_names_are_refused_before_any_work(dls, tmp_path, course, line):
    class NoWork(Callback):
        def before_fit(self):
            raise AssertionError('training began')

    learn = get_learner(dls, small(), cbs=[NoWork()], **HOW)
    with pytest.raises(BusisegError) as e:
        train(learn, 1, tmp_path/'run', progress=False, **course)
    assert str(e.value).startswith(line) and not (tmp_path/'run').exists()


def test_an_unknown_option_is_a_type_error(dls, tmp_path):
    with pytest.raises(TypeError, match='shedule'):
        train(get_learner(dls, small(), **HOW), 1, tmp_path/'run', shedule='one-cycle')


@pytest.mark.parametrize('monitor', MONITORS)
def test_the_epoch_that_a_monitor_names_is_kept(dls, tmp_path, monitor):
    learn = get_learner(dls, small(), metrics=fastai_metrics(3), **HOW)
    history = train(learn, 3, tmp_path/'run', progress=False, monitor=monitor)
    badness = [MONITORS[monitor].badness(row) for row in history.to_dict('records')]
    from busiseg_nb.models import load_model
    assert load_model(tmp_path/'run'/'best').meta['epoch'] == 1 + int(np.argmin(badness))


@pytest.mark.parametrize('schedule, rates', [(None, [1e-3]*3), ('constant', [1e-3]*3), ('one-cycle', None)])
def test_schedules(dls, tmp_path, schedule, rates):
    learn = get_learner(dls, small(), **HOW)
    history = train(learn, 3, tmp_path/'run', progress=False, schedule=schedule)
    if rates:
        assert history.lr.tolist() == rates
    else:
        assert history.lr.is_monotonic_decreasing and history.lr.iloc[-1] < 1e-4
    assert None not in SCHEDULES


def test_the_average_is_that_of_the_definition(dls):
    class ByHand(Callback):
        def before_fit(self):
            state = self.model.state_dict()
            self.mean = {key: t.clone() for key, t in state.items() if t.is_floating_point()}

        def after_step(self):
            step = self.epoch*len(self.dls.train) + self.iter
            decay = min(.9, (1 + step)/(10 + step))
            for key, mean in self.mean.items():
                mean.lerp_(self.model.state_dict()[key], 1 - decay)

    ema, by_hand = EMA(.9), ByHand()
    learn = get_learner(dls, small(), cbs=[ema, by_hand], **HOW)
    with learn.no_bar(), learn.no_logging():
        learn.fit(2)
    assert all(torch.equal(ema.state[key], mean) for key, mean in by_hand.mean.items())
    before = {key: t.clone() for key, t in learn.model.state_dict().items()}
    with ema.swapped():
        assert all(torch.equal(learn.model.state_dict()[key], mean) for key, mean in by_hand.mean.items())
    assert all(torch.equal(learn.model.state_dict()[key], t) for key, t in before.items())


@pytest.mark.parametrize('course', [{}, {'schedule': 'one-cycle', 'ema': .9}], ids=['paper', 'everything'])
def test_pieces_end_in_the_same_weights(parts, tmp_path, course):
    def learner(seed=0):
        return get_learner(get_dls(*parts, 4, device='cpu'), small(seed), **HOW)

    whole = learner()
    rows = train(whole, 3, tmp_path/'whole', progress=False, **course)
    pieces = None
    for epochs, seed in ((1, 0), (2, 7), (3, 8)):
        pieces = learner(seed)
        minutes = None if epochs == 3 else 1e-6               # a run of 3 epochs, stopped after each
        history = train(pieces, 3, tmp_path/'pieces', resume=True, progress=False, minutes=minutes, **course)
        assert len(history) == epochs
    assert same(whole.model, pieces.model)
    pd.testing.assert_frame_equal(rows.drop(columns='seconds'), history.drop(columns='seconds'))
    states = [read_resume(tmp_path/name/'resume.pt')['ema'] for name in ('whole', 'pieces')]
    if course:
        assert all(torch.equal(states[1][key], t) for key, t in states[0].items())


def test_moved_names_still_work_with_a_warning():
    from busiseg_nb import preprocessing
    for name in ('Augment', 'affine_views'):
        with pytest.warns(DeprecationWarning, match='preprocessing'):
            assert getattr(training, name) is getattr(preprocessing, name)
    with pytest.raises(AttributeError):
        _ = training.nothing_like_it
