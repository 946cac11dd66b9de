"What the notebooks quote stands in the texts they quote, and what they print as a command runs as it stands"
import json
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT/'nbs').glob('*.ipynb'))
SEEDS = ROOT.parent/'shared'/'seeds'
QUOTE = re.compile(r'["“](.+?)["”]\s*\(([^)]+)\)', re.S)


def notebook_cells(path):
    return json.loads(path.read_text(encoding='utf-8'))['cells']


# ------------------------------------------------------------------ quotations

def folded(text):
    "Without white space and hyphens, which the columns of a page break; quotation marks of one kind"
    text = re.sub('[‘’´`]', "'", text)
    return re.sub(r'[\s\-\u00ad‐]', '', text)


def block_quotes(path):
    "Block quotes of a notebook's text cells, but for the description under its title"
    for cell in notebook_cells(path):
        source = ''.join(cell['source'])
        if cell['cell_type'] != 'markdown' or source.startswith('# '):
            continue
        for block in re.findall(r'(?:^>.*\n?)+', source, re.M):
            yield re.sub(r'^> ?', '', block, flags=re.M).strip()


def fragments(quote):
    "The pieces between ellipses"
    return [piece for piece in re.split(r'\[…\]|…|\[\.\.\.\]', quote) if piece.strip()]


def missing(quote, texts):    # texts: folded sources
    "The first piece of a quotation that no source has, in its order; '' where one source has all"
    found = []
    for text in texts:
        at, lost = 0, ''
        for piece in fragments(quote):
            place = text.find(folded(piece), at)
            if place < 0:
                lost = piece
                break
            at = place + len(folded(piece))
        if not lost:
            return ''
        found.append(lost)
    return max(found, key=len)


@pytest.fixture(scope='module')
def sources():
    if not SEEDS.is_dir():
        pytest.skip('the quoted texts are not here: ../shared/seeds holds them')
    return [folded(path.read_text(encoding='utf-8')) for path in sorted(SEEDS.glob('*.txt'))]


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)
def test_block_quotes_are_verbatim(path, sources):
    for block in block_quotes(path):
        if '$$' in block:                       # an equation, which is no text
            continue
        quotes = QUOTE.findall(block)
        assert quotes, f'a block quote without quotation marks and place: {block[:80]}'
        for quote, place in quotes:
            assert missing(quote, sources) == '', f'{quote[:80]!r} ({place})'


def inline_quotes(path):
    "(words, place) of quotations inside the prose, which name a section, a figure, a table or the abstract"
    for cell in notebook_cells(path):
        source = ''.join(cell['source'])
        if cell['cell_type'] == 'markdown':
            prose = ' '.join(line for line in source.split('\n') if not line.startswith('>'))
            for quote, place in QUOTE.findall(re.sub(r'`[^`]*`', '', prose)):
                if re.search('section|abstract|figure|table', place, re.I):
                    yield re.split('["“”]', quote)[-1], place


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)
def test_quotations_in_prose_are_verbatim(path, sources):
    for quote, place in inline_quotes(path):
        assert missing(quote, sources) == '', f'{quote[:80]!r} ({place})'


def test_quotations_in_prose_are_seen():
    "That some are found shows that the search is not blind"
    assert sum(len(list(inline_quotes(path))) for path in NOTEBOOKS) >= 3


def test_a_changed_word_is_found():
    text = [folded('The batch size was 16 and the\n\nmodels were trained for 100 epo-\nchs')]
    assert missing('The batch size was 16 […] trained for 100 epochs', text) == ''
    assert missing('The batch size was 12', text) and missing('100 epochs […] The batch', text)


# ------------------------------------------------------------------ commands

def outputs_text(cell):
    "What a code cell shows as text"
    for out in cell.get('outputs', []):
        yield ''.join(out.get('text', []))
        for kind in ('text/markdown', 'text/plain'):
            yield ''.join(out.get('data', {}).get(kind, []))


def shell_lines(text):
    "(line, whether it is whole) of shell blocks, of tables, and of what prose has in code marks"
    for block in re.findall(r'```(?:sh|bash|shell)\n(.*?)```', text, re.S):
        yield from ((line, True) for line in block.replace('\\\n', ' ').split('\n'))
    for line in text.split('\n'):
        for code in re.findall(r'`(busiseg [^`\n]+)`', line):
            yield code, line.lstrip().startswith('|')


def texts_of(path):
    "All texts of a Markdown file or notebook that a reader might copy a command from"
    if path.suffix == '.md':
        return [path.read_text(encoding='utf-8')]
    found = []
    for cell in notebook_cells(path):
        found += [''.join(cell['source'])] if cell['cell_type'] == 'markdown' else outputs_text(cell)
    return found


def commands_of(path):
    "(words, whether it is whole) of each `busiseg` command that a file shows, without comments and pipes"
    found = []
    for text in texts_of(path):
        for line, whole in shell_lines(text):
            line = line.strip().removeprefix('$ ')
            if not re.search(r'(^|&& |-m )busiseg(_nb)? [a-z]', line) or '…' in line.split('#')[0]:
                continue
            words = shlex.split(line, comments=True)
            for stop in ('|', '&&', '>', ';'):
                words = words[:words.index(stop)] if stop in words else words
            if 'busiseg' in words:
                found.append((words[words.index('busiseg') + 1:], whole))
    return found


def complaint(words):
    "What the command line says to these words, without running anything; '' where it takes them"
    from typer.main import get_command

    from busiseg_nb.cli import app
    group = get_command(app)
    if words[0] not in group.commands:
        return f'no command {words[0]}'
    command = group.commands[words[0]]
    if '--help' in words:
        return ''
    try:
        command.make_context(words[0], list(words[1:]))
    except Exception as error:      # whatever the parser of this version of typer raises is an answer
        return f'{type(error).__name__}: {getattr(error, "message", error)}'
    return ''


DOCUMENTS = [*NOTEBOOKS, ROOT/'README.md', ROOT/'busiseg_nb'/'data'/'model'/'README.md']


@pytest.mark.parametrize('path', DOCUMENTS, ids=lambda p: p.stem)
def test_commands_run_as_they_stand(path):
    "Names, options and their values are taken; what works on data names it"
    for words, whole in commands_of(path):
        if len(words) == 1:
            continue
        answer = complaint(words)
        assert answer == '' or (not whole and 'Missing' in answer), f'{answer}: {shlex.join(words)}'
        if words[0] == 'reproduce' and whole:
            assert '--data' in words or '--help' in words, f'without --data: {shlex.join(words)}'


def test_wrong_commands_are_found():
    assert complaint(['no-such']) and complaint(['reproduce', '--no-such'])
    assert complaint(['phantom', 'folder', '--benign', 'many'])
    assert complaint(['phantom', 'a folder', '--benign', '3']) == ''
