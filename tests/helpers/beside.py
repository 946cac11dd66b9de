"What stands beside the project on some machines, for tests"
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[3]/'shared'


def whole(name):
    "Another hospital's data set, whole"
    if not (SHARED/'data'/name).is_dir():
        pytest.skip(f'{name} is not here (../shared/data)')
    return SHARED/'data'/name
