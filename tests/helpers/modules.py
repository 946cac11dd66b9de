"The modules of scripts/, for tests"
import importlib
import sys
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parent.parent.parent/'scripts'


def script(name):
    "A module of scripts/: 'docs', 'drift' or 'docsite.check'"
    if str(SCRIPTS) not in sys.path:
        sys.path.insert(0, str(SCRIPTS))
    return importlib.import_module(name)
