"Notebooks as pages: hidden cells go, source is folded, names become links, the reference comes at the end"
import ast
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from address import Address
from docsite.api import Module, anchors, names, reference

WORD = re.compile(r'(?<![\[`])`((?:busiseg_nb\.)?(?:\w+\.)?[A-Za-z_]\w*)(\(\))?`(?![`\]])')

IMPORT = re.compile(r'^\s*from busiseg_nb\.(\w+) import \(?([^)\n]*(?:\n[^)]*\))?)', re.M)
BADGE = re.compile(r'\s*\[!\[[^\]]*\]\([^)]*colab[^)]*\)\]\([^)]*\)\s*')


def page_name(notebook) -> str:    # path or name of a notebook
    "'03_tiling.ipynb' is the page 'tiling', as nbdev names it"
    return re.sub(r'^\d+[a-z]?_', '', Path(notebook).stem)


def number_of(notebook) -> str:
    "'07a' of '07a_runs.ipynb'; '' of 'index.ipynb'"
    found = re.match(r'(\d+[a-z]?)_', Path(notebook).name)
    return found[1] if found else ''


def title_of(cells) -> str:
    "The title of a notebook: its first heading"
    for cell in cells:
        if cell['cell_type'] == 'markdown' and (found := re.match(r'# (.+)', ''.join(cell['source']))):
            return found[1].strip()
    return ''


def exported_module(notebook) -> str:
    "The module that a notebook writes, else ''"
    for cell in notebook.cells:
        found = re.search(r'^#\|\s*default_exp (\S+)', cell.source or '', re.M)
        if found and cell.cell_type == 'code':
            return found[1]
    return ''


@dataclass
class Names:
    "Which page documents which name"
    pages: dict = field(default_factory=dict)        # name -> {page that has it: id there}
    modules: dict = field(default_factory=dict)      # module -> page

    def add(self, page: str, module: str, found: list[str]):
        "A page documents these names of a module"
        self.modules[module] = page
        for name, place in anchors(found).items():
            self.pages.setdefault(name, {})[page] = place

    def place(self, word: str, called: bool, here: str, imported: dict) -> str | None:
        """The address of a code word, None where it is not certain which name is meant. Certain is a name of
        this page, one that the notebook imports, one with its module, and one that only one page has, unless
        it is a plain word"""
        *owner, name = word.removeprefix('busiseg_nb.').split('.')
        if owner:
            page = self.modules.get(owner[0])
            page = page if page in self.pages.get(name, ()) else None
        elif name in self.modules and name not in self.pages:
            return None if self.modules[name] == here else f'{self.modules[name]}.ipynb'
        elif here in self.pages.get(name, ()):
            page = here
        elif name in imported:
            page = self.modules.get(imported[name])
            page = page if page in self.pages.get(name, ()) else None
        else:
            have = self.pages.get(name, ())
            plain = name.islower() and '_' not in name and not called
            page = next(iter(have)) if len(have) == 1 and not plain else None
        if page is None:
            return None
        return ('' if page == here else f'{page}.ipynb') + f'#{self.pages[name][page]}'


def imported_names(notebook) -> dict:
    "name -> module of busiseg_nb that it is imported from, over all cells"
    found = {}
    for cell in notebook.cells:
        text = cell.source or '' if cell.cell_type == 'code' else ''
        for module, what in IMPORT.findall(text):
            for name in re.findall(r'\w+', re.sub(r'\w+ as ', '', what)):
                found[name] = module
    return found


def link_names(text: str, place) -> str:    # place: function (word, called) -> address or None
    "Make a link of each `name` in Markdown that has a place; not in code blocks, headings or links"
    out, fence = [], False

    def linked(m):
        to = place(m[1], bool(m[2]))
        return f'[{m[0]}]({to})' if to else m[0]

    for line in text.split('\n'):
        if line.lstrip().startswith(('```', ':::')):
            fence = not fence if line.lstrip().startswith('```') else fence
        elif not fence and not line.startswith('#'):
            pieces = re.split(r'(\[[^\]]*\]\([^)]*\))', line)          # links stay what they are
            line = ''.join(p if i % 2 else WORD.sub(linked, p) for i, p in enumerate(pieces))
        out.append(line)
    return '\n'.join(out)


def clear_headings(text: str, taken: set) -> str:    # taken: ids of the reference of this page
    "Headings of the story give way where a name of the reference has their id"
    def heading(m):
        slug = re.sub(r'[^\w\s-]', '', m[2]).strip().lower().replace(' ', '-')
        return f'{m[0]} {{#about-{slug}}}' if slug in taken else m[0]
    return re.sub(r'^(#{2,4}) ([^{\n]+)$', heading, text, flags=re.M)


def defined(source: str) -> list[str]:
    "Public names that a cell defines"
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return []
    found = []
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.append(node.name)
        if isinstance(node, ast.Assign):
            found += [n.id for t in node.targets for n in ast.walk(t) if isinstance(n, ast.Name)]
    return [name for name in found if not name.startswith('_')]


def fold(cell):
    "Fold the source of what is exported, under its names"
    if cell.cell_type != 'code' or 'exports' not in cell.directives_ or not cell.source:
        return
    found = defined(cell.source)
    shown = ', '.join(found[:4]) + (' …' if len(found) > 4 else '')
    only_imports = re.match(r'\s*(import|from) ', cell.source) and not found
    summary = 'Imports' if only_imports else f'Source: {shown}' if shown else 'Source'
    cell.source = f'#| code-fold: true\n#| code-summary: "{summary}"\n{cell.source}'


def processors():
    "nbdev's processors without those that document names: the reference does that, once for each name"
    from nbdev import processors as nbdev

    left_out = 'add_show_docs clean_show_doc exec_show_docs mv_exports add_links clean_magics'.split()

    class Pages(nbdev.FilterDefaults):
        def base_procs(self):
            kept = [p for p in super().base_procs() if p.__name__ not in left_out]
            return [fold if p.__name__ == 'add_fold' else p for p in kept]
    return Pages()


@dataclass
class Book:
    "What is needed to turn notebooks into pages"
    root: Path              # of the repository
    address: Address
    pages: dict             # page -> path of its notebook
    names: Names = field(default_factory=Names)
    modules: dict = field(default_factory=dict)      # page -> Module

    def link(self, path: str, first: int, last: int) -> str:
        "Lines of a file in the repository"
        return self.address.file(path, first, last)

    def outside(self, text: str) -> str:
        "Links to files of the repository that are no pages"
        def address(m):
            return f']({self.address.file(m[1])})'
        return re.sub(r'\]\((?:\.\./|(?=results/))([\w./ -]+)\)', address, text)

    def between(self, text: str) -> str:
        "Links between notebooks, as links between pages"
        def page(m):
            return f']({page_name(m[1])}.ipynb{m[2]}'
        return re.sub(r'\]\((?:\./)?(index|\d+[a-z]?_\w+)\.(?:ipynb|html)([#)])', page, text)

    def text(self, text: str, here: str, imported: dict) -> str:
        "All links of a piece of Markdown"
        text = self.between(self.outside(text))
        return link_names(text, lambda word, called: self.names.place(word, called, here, imported))

    def reference(self, page: str, module: str) -> str:
        "The reference of a page: of the commands on theirs, of the module's names elsewhere"
        if module == 'cli':
            import importlib

            from docsite.commands import command_reference
            return command_reference(importlib.import_module('busiseg_nb.cli').app)
        return reference(self.modules[page], self.link) if page in self.modules else ''

    def buttons(self, page: str) -> str:
        "Links to Colab and to the notebook"
        name = self.pages[page].name
        return (f'[Open in Colab]({self.address.colab(name)}){{.badge-link}} '
                f'[Notebook]({self.address.file(f"nbs/{name}")}){{.badge-link}}')


def is_badge(cell) -> bool:
    "Whether a cell is only the notebook's own Colab badge, which the page has as a button"
    return cell.cell_type == 'markdown' and bool(BADGE.fullmatch(cell.source or ''))


def process(book: Book, folder: Path):    # folder: for the processed notebooks
    "Write each notebook as a page"
    from execnb.nbio import mk_cell, read_nb, write_nb
    notebooks = {page: read_nb(path) for page, path in book.pages.items()}
    written = {page: exported_module(nb) for page, nb in notebooks.items()}
    for page, module in written.items():
        file = book.root/'busiseg_nb'/f'{module}.py'
        if module and file.exists():
            book.modules[page] = Module.read(file, book.root)
            book.names.add(page, module, names(book.modules[page]))
    for page, nb in notebooks.items():
        for cell in nb.cells:
            if cell.cell_type == 'code':
                cell.source = re.sub(r'^#\|\s*export$', '#| exports', cell.source, flags=re.M)
        imported = imported_names(nb)
        taken = set(anchors(names(book.modules[page])).values()) if page in book.modules else set()
        processors()(nb)
        nb.cells = [c for c in nb.cells if c.source and not is_badge(c)]
        for cell in nb.cells:
            for out in cell.get('outputs', []):
                data = out.get('data', {})
                if 'text/markdown' in data:
                    data['text/markdown'] = book.between(book.outside(''.join(data['text/markdown'])))
            if cell.cell_type == 'markdown':
                cell.source = clear_headings(book.text(cell.source, page, imported), taken)
            if cell.cell_type == 'raw':      # the page is named already
                cell.source = re.sub(r'^output-file:.*\n', '', cell.source, flags=re.M)
        at = next((i + 1 for i, c in enumerate(nb.cells) if c.cell_type == 'raw'), 0)
        if page != 'index':
            nb.cells.insert(at, mk_cell(book.buttons(page), 'markdown'))
        setup = [c for c in nb.cells if c.cell_type == 'code' and c.source.startswith('# Setup: ')]
        for cell in setup:
            cell.source = f'#| code-fold: true\n#| code-summary: Setup\n{cell.source}'
        if page == 'index':
            nb.cells = [c for c in nb.cells if c not in setup]
        if text := book.reference(page, written[page]):
            nb.cells.append(mk_cell(text, 'markdown'))
        write_nb(nb, folder/f'{page}.ipynb')


def twice(items) -> list:
    "What is there more than once"
    return [item for item, n in Counter(items).items() if n > 1]
