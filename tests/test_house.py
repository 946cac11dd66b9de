"The house: floors, a lean start, and how a line looks where ruff does not hold it."
import ast
import json
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PKG = ROOT/'busiseg_nb'
MODULES = sorted(p.stem for p in PKG.glob('*.py') if not p.stem.startswith('_'))
FLOORS = [                                           # a module imports from the floors below its own
    {'core'},
    {'files', 'machine', 'tiling', 'metrics'},
    {'images', 'intervals', 'models'},
    {'phantom', 'dataset', 'architecture'},
    {'splits', 'preprocessing'},
    {'training', 'inference', 'leakage'},
    {'predict', 'deploy'},
    {'runs'},
    {'comparison', 'figures'},
    {'cli', 'app', 'own_data'},                      # the leaves; own_data holds names that have moved
]
ONLY = {'tiling': {'core'}, 'metrics': {'core'}}     # where less than all below is meant
LEAVES = {'cli': {'app'}}                            # the command starts the page


def floor_of(module):
    return next((i for i, modules in enumerate(FLOORS) if module in modules), None)


def imports(code, package='busiseg_nb'):
    "Modules of the package that `code` imports, anywhere in it, also inside functions"
    found = set()
    for node in ast.walk(ast.parse(code)):
        names = []
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = '.'.join(filter(None, [package if node.level else '', node.module]))
            names = [base] if base != package else [f'{package}.{a.name}' for a in node.names]
        found |= {name.split('.')[1] for name in names if name.startswith(f'{package}.')}
    return found


def test_the_search_finds_every_form_of_import():
    code = """
import busiseg_nb.core, os
from busiseg_nb import files
from . import machine
from .tiling import tile_image as tile
import numpy
def f():
    from .models import build_model
    import busiseg_nb.metrics as m
"""
    assert imports(code) == {'core', 'files', 'machine', 'tiling', 'models', 'metrics'}


@pytest.mark.parametrize('module', MODULES)
def test_a_module_imports_from_floors_below(module):
    "Hence no circle; names that have moved are looked up by `core.moved` when they are asked for"
    floor = floor_of(module)
    assert floor is not None, 'a new module needs a floor'
    allowed = ONLY.get(module, set().union(*FLOORS[:floor])) | LEAVES.get(module, set())
    assert imports((PKG/f'{module}.py').read_text(encoding='utf-8')) - {'_modidx'} <= allowed


def loaded(code, *names):
    "Which of `names` a fresh interpreter has loaded after `code`"
    code += f'\nimport sys; print([m for m in {names!r} if m in sys.modules])'
    command = [sys.executable, '-W', 'ignore', '-c', code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return ast.literal_eval(done.stdout.splitlines()[-1])


LIGHT = ['core', *sorted(FLOORS[1]), 'images', 'intervals', 'phantom', 'dataset', 'splits', 'preprocessing']


@pytest.mark.parametrize('module', [m for m in LIGHT if m in MODULES])
def test_light_modules_need_neither_fastai_nor_torch(module):
    assert loaded(f'import busiseg_nb.{module}', 'torch', 'fastai') == []


def test_prediction_starts_without_pandas():
    assert loaded('import busiseg_nb.predict', 'pandas') == []


HELP = """
import sys
from busiseg_nb import cli
sys.argv = ['busiseg', '--help']
try:
    cli.main()
except SystemExit:
    pass
"""


@pytest.mark.parametrize('code', ['import busiseg_nb.predict', 'import busiseg_nb.inference', HELP],
                         ids=['predict', 'inference', 'help'])
def test_a_lean_start_needs_no_fastai(code):
    assert loaded(code, 'fastai') == []


def imported_names(code):
    "(module of ours, name) of each name that is imported from one"
    nodes = [n for n in ast.walk(ast.parse(code)) if isinstance(n, ast.ImportFrom)]
    for node in nodes:
        module = f'busiseg_nb.{node.module}' if node.level else node.module or ''
        if module.startswith('busiseg_nb.'):
            yield from ((module.split('.')[1], a.name) for a in node.names)


def cells(path):
    "The code of a notebook without lines for the shell"
    found = [c for c in json.loads(path.read_text(encoding='utf-8'))['cells'] if c['cell_type'] == 'code']
    lines = [line for c in found for line in ''.join(c['source']).splitlines()]
    return '\n'.join(re.sub(r'^(\s*)[!%].*', r'\1pass', line) for line in lines)


FILES = sorted(p for d in ('busiseg_nb', 'tests', 'tests/helpers', 'scripts', 'benchmarks', 'analysis')
               for p in (ROOT/d).glob('*.py') if p.name != '_modidx.py')


def private_imports(code):
    "Names with a leading underscore that are imported from a module"
    nodes = [n for n in ast.walk(ast.parse(code)) if isinstance(n, ast.ImportFrom)]
    return [a.name for n in nodes for a in n.names if re.match('_[a-z]', a.name) and a.name != '_modidx']


def nested_conditions(code):
    "Lines on which a conditional expression stands in another"
    choices = [n for n in ast.walk(ast.parse(code)) if isinstance(n, ast.IfExp)]
    return [n.lineno for n in choices if any(isinstance(c, ast.IfExp) for c in (n.test, n.body, n.orelse))]


def long_lambdas(code):
    "Lines on which a lambda of more than 60 characters gets a name"
    bound = [n for n in ast.walk(ast.parse(code)) if isinstance(n, ast.Assign)]
    return [n.lineno for n in bound if isinstance(n.value, ast.Lambda) and len(ast.unparse(n.value)) > 60]


def many_parameters(code):
    "Functions of more than seven parameters; options of a command of typer are no parameters of a function"
    def count(f):
        a = f.args
        names = [x.arg for x in (*a.posonlyargs, *a.args, *a.kwonlyargs)]
        return len([n for n in names if n not in ('self', 'cls')])
    functions = [n for n in ast.walk(ast.parse(code)) if isinstance(n, ast.FunctionDef)]
    commands = {n.name for n in functions if any('command' in ast.unparse(d) for d in n.decorator_list)}
    return [n.name for n in functions if count(n) > 7 and n.name not in commands]


def test_the_searches_find_what_the_house_does_not_want():
    assert private_imports('from a import _b, c\nfrom d import __version__') == ['_b']
    assert nested_conditions('x = 1 if a else 2 if b else 3\ny = 1 if a else 2') == [1]
    assert long_lambdas(f'f = lambda x: {"x + "*20}x\ng = lambda x: x') == [1]
    assert many_parameters('def f(a, b, c, d, e, f, g, h): 1\ndef g(self, a, b, c, d, e, f, g): 1') == ['f']


def moved_names():
    "(module, name) of what has moved elsewhere"
    for module in MODULES:
        table = getattr(import_module(f'busiseg_nb.{module}'), 'MOVED', {})
        yield from ((module, name) for names in table.values() for name in names)


def test_nothing_of_ours_uses_a_name_that_has_moved():
    moved = set(moved_names())
    codes = {p.relative_to(ROOT).as_posix(): p.read_text(encoding='utf-8') for p in FILES}
    codes |= {p.name: cells(p) for p in (ROOT/'nbs').glob('*.ipynb')}
    used = {file: sorted(set(imported_names(code)) & moved) for file, code in codes.items()}
    assert {file: names for file, names in used.items() if names} == {}


@pytest.mark.parametrize('path', FILES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_how_a_line_looks(path):
    "What ruff cannot hold"
    code = path.read_text(encoding='utf-8')
    searches = [private_imports, nested_conditions, long_lambdas]
    if 'tests' not in path.parts:            # what parametrize hands out is no parameter of a function
        searches.append(many_parameters)
    for search in searches:
        assert search(code) == [], search.__doc__


@pytest.mark.parametrize('path', [p for p in FILES if p.parent == PKG], ids=lambda p: p.name)
def test_only_the_list_of_names_is_longer_than_a_line(path):
    "nbdev wraps `__all__` at 130 columns, which is what ruff allows in the package"
    code = path.read_text(encoding='utf-8')
    assigned = [n for n in ast.parse(code).body if isinstance(n, ast.Assign)]
    lists = [n for n in assigned if ast.unparse(n.targets[0]) == '__all__']
    names = {i for n in lists for i in range(n.lineno, n.end_lineno + 1)}
    long = [i for i, line in enumerate(code.split('\n'), 1) if len(line) > 110 and i not in names]
    assert long == []


PROGRAMS = sorted(p for d in ('scripts', 'benchmarks', 'analysis') for p in (ROOT/d).glob('*.py')
                  if "if __name__ == '__main__':" in p.read_text())


@pytest.mark.parametrize('path', PROGRAMS, ids=lambda p: p.stem)
def test_every_program_reads_its_arguments_by_argparse(path):
    assert re.search(r'\.parse_(known_)?args\(', path.read_text())     # `arguments` makes a parser, too
