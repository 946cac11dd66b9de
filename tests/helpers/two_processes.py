"Helper of test_distributed: train in however many processes it is launched as, whole and in pieces."
import sys
from functools import partial
from pathlib import Path

import torch
from fastai.optimizer import OptimWrapper

from busiseg_nb.core import BusisegError, fail, seed_everything
from busiseg_nb.dataset import find_cases
from busiseg_nb.machine import agreed, main_first, processes
from busiseg_nb.metrics import fastai_metrics
from busiseg_nb.models import DiceCELoss
from busiseg_nb.phantom import make_phantom
from busiseg_nb.preprocessing import Augment, build_cache
from busiseg_nb.training import get_dls, get_learner, train
from tiny import tiny


def learner(tmp, frozen=True, bs=8):
    """19 training tiles in batches of 8: the last one, of 3, has no halves

    SGD, so that the size of a gradient counts; batch norm at rest; numbers of 64 bits, so that rounding
    hides nothing (training amplifies it).
    """
    cases = find_cases(main_first(make_phantom, tmp/'phantom', n=(12, 10, 4), seed=3, scale=.3))
    cache = main_first(build_cache, cases, tmp/'cache', size=64, resize=64, channels=1, progress=False)
    seed_everything(0)
    model = tiny().double()
    model.register_forward_pre_hook(lambda m, x: x[0].double())
    for m in model.modules():
        if frozen and isinstance(m, torch.nn.modules.batchnorm._BatchNorm):
            m.eval()
            m.train = lambda mode=True, m=m: m
    dls = get_dls(cache, {'train': cases[:19], 'valid': cases[19:]}, bs, Augment(64), device='cpu')
    sgd = partial(OptimWrapper, opt=partial(torch.optim.SGD, momentum=.9))
    return get_learner(dls, model, DiceCELoss(), .02, sgd, fastai_metrics(3), bf16=False)


def main(tmp, out):
    kw = {'schedule': 'one-cycle', 'ema': .9, 'progress': False}
    train(learner(tmp), 4, out/'whole', **kw)
    train(learner(tmp), 4, out/'pieces', minutes=1e-6, **kw)
    train(learner(tmp), 4, out/'pieces', resume=True, **kw)
    try:
        with agreed():
            if processes()[0]:
                fail('process 1', 'is broken')
    except BusisegError as e:
        (out/f'heard-{processes()[0]}').write_text(str(e))


if __name__ == '__main__':
    main(Path(sys.argv[1]), Path(sys.argv[2]))
