"The reference at the end of a page: each public name of a module once, in the order of its source"
import ast
import io
import re
import tokenize
from dataclasses import dataclass
from pathlib import Path

WIDTH = 88      # columns of a signature on one line
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass
class Module:
    "The source of a module, and where it is shown"
    path: Path           # of the file
    shown: str           # its path in the repository
    source: str
    comments: dict       # line number -> comment at the end of this line

    @classmethod
    def read(cls, path: Path, root: Path) -> 'Module':
        "From its file; root is the folder of the repository"
        source = path.read_text(encoding='utf-8')
        tokens = tokenize.generate_tokens(io.StringIO(source).readline)
        comments = {t.start[0]: t.string.lstrip('# ').strip() for t in tokens if t.type == tokenize.COMMENT}
        return cls(path, path.relative_to(root).as_posix(), source, comments)

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.source)


def first_line(node) -> int:
    "The line where a definition begins, its decorators included"
    return min([node.lineno] + [d.lineno for d in getattr(node, 'decorator_list', [])])


def decorators(node) -> list[str]:
    "Names of the decorators: ['dataclass'], ['app.command']"
    return [ast.unparse(d.func if isinstance(d, ast.Call) else d) for d in node.decorator_list]


def patched(node) -> str:
    "The class that `@patch` adds this function to, else ''"
    if 'patch' not in decorators(node) or not node.args.args or node.args.args[0].annotation is None:
        return ''
    return ast.unparse(node.args.args[0].annotation).strip('\'"')


def public(module: Module) -> list:
    "Definitions of a module that are no private ones, in the order of the source"
    nodes = [n for n in module.tree.body if isinstance(n, (*FUNCTIONS, ast.ClassDef))]
    return [n for n in nodes if not n.name.startswith('_')]


def constants(module: Module) -> list[tuple[str, int, int]]:
    "(name, first line, last line) of each public name in capitals that a module assigns"
    found = []
    for node in module.tree.body:
        if not isinstance(node, (ast.Assign, ast.AnnAssign)):
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        names = [n for t in targets for n in (t.elts if isinstance(t, ast.Tuple) else [t])]
        for name in names:
            if isinstance(name, ast.Name) and re.fullmatch('[A-Z][A-Z0-9_]+', name.id):
                found.append((name.id, node.lineno, node.end_lineno))
    return found


def names(module: Module) -> list[str]:
    "All names that the reference of a module has"
    return [n.name for n in public(module)] + [name for name, *_ in constants(module)]


def anchors(found: list[str]) -> dict:    # names of a page, in order
    "name -> id of its place on the page; `Counts` and `counts` get two"
    places = {}
    for name in found:
        place = name.lower()
        while place in places.values():
            place += '-'
        places.setdefault(name, place)
    return places


# ------------------------------------------------------------------ signatures

def arguments(node) -> list[tuple[str, str, int]]:
    "(text, name, last line) of each parameter; markers '/' and '*' have no name"
    spec, found = node.args, []
    plain = [*spec.posonlyargs, *spec.args]
    defaults = [None]*(len(plain) - len(spec.defaults)) + list(spec.defaults)
    pairs = list(zip(plain, defaults, strict=True))
    for i, (arg, default) in enumerate(pairs):
        found.append(parameter(arg, default))
        if spec.posonlyargs and i == len(spec.posonlyargs) - 1:
            found.append(('/', '', 0))
    if spec.vararg:
        found.append(parameter(spec.vararg, None, '*'))
    elif spec.kwonlyargs:
        found.append(('*', '', 0))
    found += [parameter(a, d) for a, d in zip(spec.kwonlyargs, spec.kw_defaults, strict=True)]
    if spec.kwarg:
        found.append(parameter(spec.kwarg, None, '**'))
    return found


def parameter(arg, default, stars='') -> tuple[str, str, int]:
    "(text, name, last line) of one parameter; the typing of a command's option is left to its help"
    kind = ast.unparse(arg.annotation) if arg.annotation else ''
    kind = '' if kind.startswith('Annotated[') else kind
    text = stars + arg.arg + (f': {kind}' if kind else '')
    if default is not None:
        text += (' = ' if kind else '=') + ast.unparse(default)
    return text, arg.arg, max(n.end_lineno for n in (arg, default) if n is not None)


def fields(node) -> list[tuple[str, str, int]]:
    "(text, name, last line) of each field of a dataclass"
    found = []
    for n in node.body:
        if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name):
            default = f' = {ast.unparse(n.value)}' if n.value else ''
            found.append((f'{n.target.id}: {ast.unparse(n.annotation)}{default}', n.target.id, n.end_lineno))
    return found


def call(node) -> list[tuple[str, str, int]]:
    "Parameters with which a function or class is called, without self"
    if isinstance(node, ast.ClassDef):
        init = next((n for n in node.body if isinstance(n, FUNCTIONS) and n.name == '__init__'), None)
        if init is None:
            return fields(node) if any(d.endswith('dataclass') for d in decorators(node)) else []
        return arguments(init)[1:]
    return arguments(node)[1:] if patched(node) else arguments(node)


def signature(name: str, node) -> str:
    "As it is called: on one line where it fits, else a parameter a line"
    parts = [text for text, *_ in call(node)]
    back = f' -> {ast.unparse(node.returns)}' if getattr(node, 'returns', None) is not None else ''
    if isinstance(node, ast.ClassDef):
        name = f'class {name}'
    line = f'{name}({", ".join(parts)}){back}'
    if len(line) <= WIDTH:
        return line
    return f'{name}(\n' + ''.join(f'    {part},\n' for part in parts) + f'){back}'


def meanings(module: Module, node) -> list[tuple[str, str]]:
    "(parameter, its comment) of those that have one, and ('returns', …)"
    found, pars, back = [], [p for p in call(node) if p[1]], getattr(node, 'returns', None)
    at_return = back.end_lineno if back is not None else None      # after `-> int:` the comment is of that
    for i, (_, name, line) in enumerate(pars):
        last_there = i + 1 == len(pars) or pars[i + 1][2] != line
        if last_there and line in module.comments and line != at_return:
            found.append((name, module.comments[line]))
    if at_return in module.comments:
        found.append(('returns', module.comments[at_return]))
    return found


# ------------------------------------------------------------------ as Markdown

def cell_text(text: str) -> str:
    "Text that may stand in a cell of a Markdown table"
    parts = re.split(r'(`[^`]*`)', ' '.join(text.split()))
    plain = [p if p.startswith('`') else p.replace('<', '&lt;') for p in parts]
    return ''.join(plain).replace('|', r'\|')


def doc(node) -> str:
    "A docstring as Markdown"
    text = ast.get_docstring(node) or ''
    return '\n'.join(cell_text(line).replace(r'\|', '|') if line.strip() else '' for line in text.split('\n'))


def entry(module: Module, node, link, anchor: str) -> list[str]:    # link: (path, first, last) -> address
    "The reference of one name, in lines of Markdown"
    owner = '' if isinstance(node, ast.ClassDef) else patched(node)
    name = f'{owner}.{node.name}' if owner else node.name
    source = link(module.shown, first_line(node), node.end_lineno)
    out = [f'### `{name}` {{#{anchor}}}', '', f'```python\n{signature(name, node)}\n```', '']
    out += [f'{doc(node)} [Source]({source}){{.source-link}}', '']
    if rows := meanings(module, node):
        out += ['| parameter | meaning |', '|---|---|']
        out += [f'| {"*returns*" if n == "returns" else f"`{n}`"} | {cell_text(text)} |' for n, text in rows]
        out.append('')
    if isinstance(node, ast.ClassDef):
        out += methods(module, node, link)
    return out


def methods(module: Module, node, link) -> list[str]:
    "Public methods of a class that say what they do, as a table"
    own = [n for n in node.body if isinstance(n, FUNCTIONS) and not n.name.startswith('_')]
    own = [n for n in own if ast.get_docstring(n)]
    if not own:
        return []
    out = ['| method | what it does |', '|---|---|']
    for n in own:
        property_ = any(d.endswith('property') for d in decorators(n))
        text = n.name if property_ else f'{n.name}({", ".join(t for t, *_ in arguments(n)[1:])})'
        link_text = f'[`{cell_text(text)}`]({link(module.shown, first_line(n), n.end_lineno)})'
        out.append(f'| {link_text} | {cell_text(ast.get_docstring(n).split(chr(10) + chr(10))[0])} |')
    return [*out, '']


def reference(module: Module, link) -> str:
    "The section Reference of a page; '' for a module without public names"
    nodes, capitals, places = public(module), constants(module), anchors(names(module))
    if not nodes and not capitals:
        return ''
    out = ['## Reference {#reference}', '']
    file = link(module.shown, 0, 0)
    out += [f'Every public name of [`{module.shown}`]({file}), in the order of the source.', '']
    for node in nodes:
        out += entry(module, node, link, places[node.name])
    if capitals:
        out += ['### Constants {#constants}', '', '| name | meaning |', '|---|---|']
        for name, first, last in capitals:
            text = cell_text(module.comments.get(first, '') or module.comments.get(last, ''))
            out.append(f'| [[`{name}`]({link(module.shown, first, last)})]{{#{places[name]}}} | {text} |')
    return '\n'.join(out) + '\n'
