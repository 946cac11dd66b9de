"Pages that no notebook makes: results, changelog, model card; and the site's configuration"
import json
import re
from pathlib import Path

import yaml

from docsite.cells import Book, number_of, page_name, title_of
from docsite.commands import runnable

METRICS = ('iou', 'dice', 'precision', 'recall')
QUARTO_ONLY = ('code-tools', 'code-block-bg', 'code-overflow', 'highlight-style', 'grid', 'html-math-method')
RESULTS_HEAD = """---
title: Results
description: Every recorded run and analysis, with what it measured and the command that made it
---

Each number is read from a file under `results/` when this site is rendered. Scores are in per cent. The
brackets hold 95 % bootstrap intervals over groups of near-copies. The convention stands under each run.
The [comparison](comparison.ipynb) puts the scores beside the paper's.

## Runs
"""


def read(path: Path) -> dict:
    "A JSON file"
    return json.loads(path.read_text(encoding='utf-8'))


def number(value) -> str:    # [value, low, high] in 0..1
    "'73.17 [70.10, 76.02]'"
    if not value or value[0] is None:
        return '–'
    if value[1] is None:
        return f'{100*value[0]:.2f}'
    return f'{100*value[0]:.2f} [{100*value[1]:.2f},\xa0{100*value[2]:.2f}]'


def run_facts(run: dict, folder: str, book: Book) -> dict:
    "What is worth knowing of a run, in the order of the page"
    origin, training, data = (run.get(k) or {} for k in ('provenance', 'training', 'data'))
    sizes, hardware = run.get('split_sizes') or {}, origin.get('hardware') or {}
    parts = {'train': 'training', 'valid': 'validation', 'test': 'test images'}
    minutes = f', {training["seconds"]/60:.0f} min' if training.get('seconds') else ''
    commit = f'`{origin["commit"][:10]}`, {origin.get("date", "")[:10]}' if origin.get('commit') else ''
    cores = f'{hardware["cores"]} cores' if hardware.get('cores') else None
    background = number([run.get('background_only_iou_mean'), None, None])
    weights = run.get('encoder_weights') or 'random'
    where = 'BUSI' if data.get('is_busi') else 'the phantom (made up, no patients)'
    return {
        'data': f'{where}, {data.get("images")} images, fingerprint `{data.get("fingerprint")}`',
        'split': f'{run.get("split")}: ' + ', '.join(f'{sizes.get(k)} {what}' for k, what in parts.items()),
        'model': f'{run.get("model")}, {weights} weights, profile {run.get("profile")}',
        'training': f'weights of epoch {training.get("best_epoch")} of {training.get("epochs")}{minutes}',
        'background everywhere': f'would have a mean IoU of {background}',
        'convention': run.get('convention'),
        'command': f'`{runnable(origin["command"])}`' if origin.get('command') else None,
        'commit': commit or origin.get('date'),
        'hardware': ', '.join(str(v) for v in (hardware.get('gpu'), hardware.get('processor'), cores) if v),
        'files': f'[{folder}]({book.address.git_url}/tree/{book.address.branch}/{folder})'}


def run_section(file: Path, book: Book) -> list[str]:    # a results.json
    "Scores of a run, and where they come from"
    run = read(file)
    scores = run.get('scores', {})
    classes = [k[4:] for k in scores if k.startswith('iou_') and k != 'iou_mean'] + ['mean']
    facts = run_facts(run, file.parent.relative_to(book.root).as_posix(), book)
    out = [f'### {run.get("name", file.parent.name)}', '']
    out += ['| class | IoU | Dice | precision | recall |', '|---|--:|--:|--:|--:|']
    for name in classes:
        out.append(f'| {name} | ' + ' | '.join(number(scores.get(f'{k}_{name}')) for k in METRICS) + ' |')
    return [*out, '', *(f'- {key}: {value}' for key, value in facts.items() if value), '']


def analysis_row(file: Path, texts: dict, book: Book) -> str:    # texts: notebook -> its text
    "A file of numbers: the page that shows it, the command that made it"
    content = read(file) if file.suffix == '.json' else {}
    origin = content.get('provenance', content) if isinstance(content, dict) else {}
    path = file.relative_to(book.root)
    shown = [nb for nb, text in texts.items() if file.name in text or f'/{file.stem}' in text]
    pages = ', '.join(f'[{page_name(nb)}]({nb})' for nb in shown)
    command = f'`{runnable(origin["command"])}`' if origin.get('command') else ''
    link = f'[{path.relative_to("results")}]({book.address.file(path.as_posix())})'
    return f'| {link} | {pages} | {command} | {origin.get("date", "")[:10].replace("-", "‑")} |'


def results_page(book: Book) -> str:
    "Every recorded run and analysis, with what it measured and where it came from"
    out = [RESULTS_HEAD]
    for file in sorted((book.root/'results').glob('*/results.json')):
        out += run_section(file, book)
    texts = {f'{page}.ipynb': path.read_text(encoding='utf-8') for page, path in book.pages.items()}
    out += ['## Analyses and benchmarks', '', '| file | shown in | command | date |', '|---|---|---|---|']
    others = sorted(p for p in (book.root/'results').glob('*/*') if p.suffix in ('.json', '.csv'))
    out += [analysis_row(p, texts, book) for p in others if not (p.parent/'results.json').exists()]
    return '\n'.join(out) + '\n'


def copied_page(source: Path, title: str, description: str) -> str:
    "A Markdown file of the repository under a title of its own"
    text = source.read_text(encoding='utf-8')
    text = re.sub(r'\A---\n.*?\n---\n', '', text, flags=re.S)
    text = re.sub(r'\A\s*# .*\n', '', text)
    return f'---\ntitle: {json.dumps(title)}\ndescription: {json.dumps(description)}\n---\n{text}'


OTHERS = {      # page -> (file, title, description)
    'changelog': ('CHANGELOG.md', 'Changelog', 'What changed in each release'),
    'model_card': ('busiseg_nb/data/model/README.md', 'Model card',
                   'The model that comes with the package: data, training, scores, limits'),
    'contributing': ('CONTRIBUTING.md', 'Contributing',
                     'The changes that a newcomer makes, with the lines to add')}


def other_pages(book: Book, folder: Path):
    "Write the pages that no notebook makes"
    (folder/'results.md').write_text(results_page(book), encoding='utf-8')
    for name, (source, title, description) in OTHERS.items():
        if (book.root/source).exists():
            text = book.between(copied_page(book.root/source, title, description))
            text = re.sub(r'\]\(nbs/(\w+)\.ipynb', lambda m: f']({page_name(m[1])}.ipynb', text)
            (folder/f'{name}.md').write_text(text, encoding='utf-8')


def source_of(page: str, book: Book) -> str:
    "The file in the repository that a page is made of"
    if page in book.pages:
        return f'nbs/{book.pages[page].name}'
    return OTHERS[page][0] if page in OTHERS else 'results'


# ------------------------------------------------------------------ configuration

def sidebar_text(href: str, book: Book) -> str | None:
    "'03 Tiling' for a notebook: its number and its title; None where the page's own title does"
    path = book.pages.get(page_name(href)) if href.endswith('.ipynb') else None
    if path is None or not number_of(path):
        return None
    return f'{number_of(path)} {title_of(read(path)["cells"])}'


def sidebar_entries(items: list, book: Book, folder: Path, missing: list):
    "Entries whose pages are there, notebooks under their number and title; the others go into `missing`"
    for item in items:
        if isinstance(item, dict) and 'contents' in item:
            inner = list(sidebar_entries(item['contents'], book, folder, missing))
            if inner:
                yield {**item, 'contents': inner}
            continue
        href = item['href'] if isinstance(item, dict) else item
        to = f'{page_name(href)}.ipynb' if href.endswith('.ipynb') else href
        if not (folder/to).exists():
            missing.append(href)
            continue
        text = item.get('text') if isinstance(item, dict) else None
        text = text or sidebar_text(href, book)
        yield {'href': to, 'text': text} if text else {'href': to}


def configure(book: Book, folder: Path, quarto: bool) -> list[str]:    # quarto: whether Quarto renders
    "Write the site's configuration for these pages; returns the entries of the sidebar that have no page"
    config = yaml.safe_load((book.root/'_quarto.yml').read_text(encoding='utf-8'))
    side = yaml.safe_load((book.root/'nbs'/'sidebar.yml').read_text(encoding='utf-8'))
    sidebar, missing = side['website']['sidebar'], []
    sidebar['contents'] = list(sidebar_entries(sidebar['contents'], book, folder, missing))
    website = config['website']
    website |= {'sidebar': sidebar, 'repo-subdir': 'nbs', 'page-navigation': True}
    config.pop('metadata-files', None)
    config['project'] |= {'output-dir': '_site', 'render': ['*.ipynb', '*.md']}
    if not quarto:
        options = config['format']['html']
        config['format']['html'] = {k: v for k, v in options.items() if k not in QUARTO_ONLY}
    (folder/'_quarto.yml').write_text(yaml.safe_dump(config, sort_keys=False), encoding='utf-8')
    return missing
