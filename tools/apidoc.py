#!/usr/bin/env python3
"""Writes the reference pages docs/api/*.md from the annotations in lualib/meta.

    tools/apidoc.py            writes the pages
    tools/apidoc.py --check    writes nothing; says which pages are not up to date, with status 1

The annotations are the one source: LuaLS files (`---@meta`) that editors read as they are. What they hold beyond LuaLS's own tags:

- A comment `-- ## Title` begins a section of the page.
- A function stands once for each form of calling it. The first one carries the text, the others what is special about them.
  `---@async` marks the form that suspends.
- In a function's text, `Errors:` begins the list of errors, and `Example:` the examples, which tests/test_docs.py runs.
  `Form: …` gives a signature that Lua cannot spell (a parameter after `...`).
- A callback's description says whether it is called `Once` or is `Continuous`; nil removes one of the latter.
- A module may go on in files NAME_*.lua, which are read after NAME.lua, in the order of their names.
- lualib/meta/rules.md is the text of docs/api/README.md; `<!-- modules -->`, `<!-- types -->`, `<!-- errors -->` and
  `<!-- functions -->` stand for tables that are made here.
"""

import argparse
import re
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
META = TOP / "lualib" / "meta"
PAGES = TOP / "docs" / "api"
MODULES = ["context", "tcp", "timer", "buffer"]

# How types are called on the pages; the first ones are explained in README.md.
EXPLAINED = {
    "nl.handle": "handle", "nl.ref": "handle or name", "nl.fd": "fd", "nl.err": "error code", "nl.seconds": "seconds",
    "nl.data": "bytes", "nl.value": "value",
}
OTHERS = {"nl.code": "error code", "tcp.socket": "socket", "timer.id": "timer (a number)", "any": "any value", "table": "table"}


class Mistake(Exception):
    """Something in lualib/meta that cannot be right."""


# --- Types ------------------------------------------------------------------------------------------------------------------


def split_type(text):
    """Splits "TYPE rest": a type ends at the first space that is neither within brackets nor after a colon, comma or bar."""
    depth = 0
    for i, c in enumerate(text):
        if c in "([{<":
            depth += 1
        elif c in ")]}>":
            depth -= 1
        elif c == " " and depth == 0 and text[i - 1] not in ":,|":
            return text[:i], text[i + 1:].strip()
    return text, ""


def split_outside(text, separator):
    """Splits at a separator that is not within brackets."""
    parts, depth, start = [], 0, 0
    for i, c in enumerate(text):
        depth += (c in "([{<") - (c in ")]}>")
        if c == separator and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
    return [*parts, text[start:].strip()]


def callback_of(type_):
    """The call of a function type as text, "callback(result, data[, timeout])", or None."""
    for part in split_outside(type_, "|"):
        if part.startswith("fun("):
            inside = part[4:part.rindex(")")]
            names = [p.split(":")[0].strip() for p in split_outside(inside, ",") if p]
            return f"callback({signature_list([(n.rstrip('?'), n.endswith('?')) for n in names])})"
    return None


def show_type(type_, link, without=()):
    """A type in words."""
    words = []
    for part in split_outside(type_, "|"):
        optional = part.endswith("?")
        part = part.rstrip("?")
        if part in without:
            continue
        if part in EXPLAINED:
            text = f"[{EXPLAINED[part]}]({link}#types)"
        elif part in OTHERS:
            text = OTHERS[part]
        elif part.startswith("fun("):
            text = "function"
        elif part in CLASSES:
            text = f"[table](#{anchor(part)})"
        elif re.fullmatch(r'"\w*"|\d+|true|false', part):
            text = f"`{part}`"
        else:
            text = part
        words.append(text)
        if optional:
            words.append("nil")
    return " or ".join(dict.fromkeys(words))


# --- Reading ----------------------------------------------------------------------------------------------------------------


class Form:
    """One way to call a function."""

    def __init__(self, where, comment, name, arguments):
        self.where, self.name = where, name
        self.text, self.errors, self.example = [], [], []
        self.params, self.returns, self.awaits, self.signature = [], [], False, None
        into = self.text
        for line in comment:
            tag, _, rest = line.partition(" ")
            if tag == "@param":
                argument, _, rest = rest.partition(" ")
                self.params.append((argument.rstrip("?"), argument.endswith("?"), *split_type(rest)))
            elif tag == "@return":
                type_, rest = split_type(rest)
                result, _, rest = rest.partition(" ")
                self.returns.append((result, type_, rest))
            elif tag == "@async":
                self.awaits = True
            elif tag in ("@overload", "@nodiscard"):
                pass
            elif tag.startswith("@"):
                raise Mistake(f"{where}: unknown tag {tag}")
            elif line == "Errors:":
                into = self.errors
            elif line == "Example:":
                into = self.example
            elif line.startswith("Form: "):
                self.signature = line[6:].strip("`")
            else:
                into.append(line)
        if [p[0] for p in self.params] != arguments:
            raise Mistake(f"{where}: {name}: the @param are {[p[0] for p in self.params]}, the arguments {arguments}")
        for param, _, type_, text in self.params:
            if param == "callback" and not re.match("(Once|Continuous)[.,]", text):
                raise Mistake(f"{where}: {name}: is the callback `Once.` or `Continuous.`?")
        if self.signature is None:
            self.signature = f"{name}({signature_list([(p[0], p[1]) for p in self.params])})"

    def outcome(self):
        """What a call returns, in short."""
        if not self.returns:
            return "nothing"
        if self.returns[0][1] == "true":
            return "`true`"
        values = [t.split("|")[0] if re.match(r"\d+\|", t) else n for n, t, _ in self.returns if t != "nl.err?"]
        fails = "nl.err?" in [t for _, t, _ in self.returns]
        if self.returns[0][0] == "result":
            values[0], fails = "true", True
        out = f"`{', '.join(values)}`"
        if fails:
            return out + " or `false, err`"
        return out + (" or `nil`" if self.returns[0][1].endswith("?") else "")


class Class:
    def __init__(self, name, comment, fields):
        self.name, self.text, self.fields = name, comment, fields


class Module:
    def __init__(self, name):
        self.name = name
        self.paths = [META / f"{name}.lua", *sorted(META.glob(f"{name}_*.lua"))]
        self.sections = []  # [title, {function name: [Form]}]
        self.classes = {}
        for path in self.paths:
            self.read(path)
        for _, functions in self.sections:
            for function, forms in functions.items():
                if not trimmed(forms[0].text) or not forms[0].example:
                    raise Mistake(f"{forms[0].where}: {function} has no text or no example")

    def read(self, path):
        comment = []
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if line.startswith("---"):
                comment.append(line[3:])
                continue
            where = f"{path.relative_to(TOP)}:{number}"
            if m := re.match(r"-- ## (.*)", line):
                self.sections.append((m[1], {}))
            elif m := re.match(r"function ([\w.]+)\((.*)\) end$", line):
                form = Form(where, comment, m[1], [a.strip() for a in m[2].split(",") if a.strip()])
                if not self.sections:
                    self.sections.append((None, {}))
                self.sections[-1][1].setdefault(m[1], []).append(form)
            elif comment:
                self.read_class(comment)
            comment = []
        if comment:
            self.read_class(comment)

    def read_class(self, comment):
        text, fields, name = [], [], None
        for line in comment:
            tag, _, rest = line.partition(" ")
            if tag == "@class":
                name = rest.split(":")[0].strip()
            elif tag == "@field" and not rest.startswith("["):
                field, _, rest = rest.partition(" ")
                fields.append((field.rstrip("?"), *split_type(rest)))
            elif tag == "@alias":
                name, _, rest = rest.partition(" ")
            elif not tag.startswith("@"):
                text.append(line)
        if name in self.classes:  # goes on in another file
            self.classes[name].text += text
            self.classes[name].fields += fields
        elif name:
            self.classes[name] = Class(name, text, fields)

    def functions(self):
        return [(name, forms) for _, functions in self.sections for name, forms in functions.items()]


def trimmed(lines):
    """Without empty lines at the ends."""
    return "\n".join(lines).strip("\n").splitlines()


def signature_list(params):
    """[("a", False), ("b", True)] → "a[, b]"."""
    out = closing = ""
    for i, (name, optional) in enumerate(params):
        comma = ", " if i else ""
        if optional and all(o for _, o in params[i:]):
            out += f"[{comma}{name}"
            closing += "]"
        else:
            out += f"[{comma}{name}]" if optional else comma + name
    return out + closing


# --- Writing ----------------------------------------------------------------------------------------------------------------


def anchor(text):
    """What GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")


def table(head, rows):
    """A table; columns that are empty throughout are left out."""
    keep = [i for i in range(len(head)) if i == 0 or any(row[i] for row in rows)]
    lines = ["| " + " | ".join(head[i] for i in keep) + " |", "|" + "---|" * len(keep)]
    for row in rows:
        lines.append("| " + " | ".join(row[i].replace("|", "\\|") for i in keep) + " |")
    return [*lines, ""]


def function_lines(name, forms):
    out = [f"### {name}", ""]
    for form in forms:
        suspends = "; suspends" if form.awaits else ""
        out.append(f"- `{form.signature}` → {form.outcome()}{suspends}")
    out.append("")
    for form in forms:
        if text := trimmed(form.text):
            out += [*text, ""]
    rows = {}
    for form in forms:
        for param, optional, type_, text in form.params:
            shown = show_type(type_, "README.md", without=("nil",))
            if optional:
                shown += ", optional"
            elif "nil" in split_outside(type_, "|") or text.startswith("Continuous"):
                shown += " or nil"
            if param == "callback":
                text = f"`{callback_of(type_)}`. {text}"
            rows.setdefault(param, (f"`{param}`", shown, text))
    if rows:
        out += table(("parameter", "type", "meaning"), list(rows.values()))
    rows = {}
    for form in forms:
        for result, type_, text in form.returns:
            plain = type_ in ("true", "nl.err?") or (type_ == "boolean" and result == "result")
            if not plain and result not in rows:
                rows[result] = (f"`{result}`", show_type(type_.rstrip("?"), "README.md", without=("nl.err",)), text)
    if rows:
        out += table(("result", "type", "meaning"), list(rows.values()))
    errors = trimmed(forms[0].errors)
    if errors:
        out += ["Errors:", "", *errors, ""]
    out += ["Example:" if "\n".join(forms[0].example).count("```lua") == 1 else "Example, in two files:", ""]
    out += [*trimmed(forms[0].example), ""]
    return out


def generated(source):
    return f"<!-- Written by tools/apidoc.py from {source}. Do not edit. -->"


def page(module):
    out = [generated(", ".join(str(path.relative_to(TOP)) for path in module.paths)), "", f"# {module.name}", ""]
    main = module.classes[f"{module.name}lib"]
    out += [*trimmed(main.text), ""]
    out += ["The rules that hold for every function, and all error codes, are in [README.md](README.md).", ""]
    for title, functions in module.sections:
        if functions:
            links = ", ".join(f"[{n.split('.')[1]}](#{anchor(n)})" for n in functions)
            out.append(f"- {title}: {links}" if title else f"- {links}")
    out.append("")
    if main.fields:
        out += ["## Fields", ""]
        out += table(("field", "type", "meaning"),
                     [(f"`{module.name}.{n}`", "table" if t == "context.errno" else show_type(t, "README.md"), text)
                      for n, t, text in main.fields])
    for title, functions in module.sections:
        if title == "Types":
            out += ["## Types", ""]
            for name, class_ in module.classes.items():
                if class_.fields and class_ is not main and name != "context.errno":
                    out += [f"### {name}", "", *trimmed(class_.text), ""]
                    out += table(("field", "type", "meaning"), [(f"`{n}`", show_type(t, "README.md"), text)
                                                                 for n, t, text in class_.fields])
            continue
        if title:
            out += [f"## {title}", ""]
        else:
            out += ["## Functions", ""]
        for name, forms in functions.items():
            out += function_lines(name, forms)
    return "\n".join(out).rstrip("\n") + "\n"


def sentence(lines):
    """The first sentence of a text."""
    text = " ".join(" ".join(lines).split())
    return re.match(r".*?[.:](?= |$)", text + " ")[0].rstrip(":") if text else ""


def readme(modules, types):
    errno = modules[0].classes["context.errno"]
    parts = {
        "modules": table(("module", ""), [(f"[{m.name}]({m.name}.md)", sentence(trimmed(m.classes[f"{m.name}lib"].text)))
                                          for m in modules]),
        "types": table(("type", "meaning"), [(EXPLAINED[name], " ".join(trimmed(types.classes[name].text)))
                                             for name in EXPLAINED]),
        "errors": table(("name", "code", "meaning"), [(f"`{n}`", t, text) for n, t, text in errno.fields]),
        "functions": [f"- {m.name}: " + ", ".join(f"[{n.split('.')[1]}]({m.name}.md#{anchor(n)})" for n, _ in m.functions())
                      for m in modules],
    }
    out = [generated("lualib/meta/rules.md"), ""]
    for line in (META / "rules.md").read_text().splitlines():
        m = re.fullmatch(r"<!-- (\w+) -->", line)
        out += trimmed(parts[m[1]]) if m else [line]
    return "\n".join(out).rstrip("\n") + "\n"


CLASSES = {}


def load():
    """The modules, and the types they share."""
    modules, types = [Module(name) for name in MODULES], Module("types")
    for module in modules:
        CLASSES.update({name: c for name, c in module.classes.items() if c.fields})
    return modules, types


def pages():
    """Every page: path → text."""
    modules, types = load()
    out = {PAGES / f"{m.name}.md": page(m) for m in modules}
    out[PAGES / "README.md"] = readme(modules, types)
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    try:
        wanted = pages()
    except Mistake as mistake:
        sys.exit(f"apidoc.py: {mistake}")
    PAGES.mkdir(parents=True, exist_ok=True)
    stale = [p for p, text in wanted.items() if not p.exists() or p.read_text() != text]
    stale += [p for p in PAGES.glob("*.md") if p not in wanted]
    for path in stale:
        if args.check:
            print(f"apidoc.py: {path.relative_to(TOP)} is not up to date; run tools/apidoc.py", file=sys.stderr)
        elif path in wanted:
            path.write_text(wanted[path])
            print(path.relative_to(TOP))
        else:
            print(f"apidoc.py: what is {path.relative_to(TOP)}?", file=sys.stderr)
    return 1 if args.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
