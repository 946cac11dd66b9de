"The smallest network that the tests train and predict with."
from busiseg_nb.models import build_model

NAME = 'tu-mobilenetv3_small_050'


def tiny(**more):
    "One channel in, three classes out, random weights; `more` of `build_model`'s arguments"
    return build_model(NAME, None, in_channels=1, decoder_channels=(16, 16, 16, 8, 8), **more)
