#!/usr/bin/env python3
"""Checks which part may use which (ARCHITECTURE.md). Prints each violation as file:line, and exits with 1 if there is one.

Cargo enforces the layers between crates; this checks that each manifest names only the crates below it, that the
parts of the server use only the parts below them, that no files import each other in a circle, and that files which
deny impure methods (clippy/clippy.toml) name neither tokio nor mio. An import is an edge to the file that
defines the name, so a re-export is no edge. A folder's mod.rs forms one unit with its own files. Unit tests are ignored.
"""
import re, sys, tempfile, tomllib, unittest
from pathlib import Path

CRATES = {  # folder: the presenced crates that it may depend on
    "protocol": [], "jwt": [], "net": [], "tls": [], "tasks": [], "memcached": ["protocol", "net", "tasks"],
    "store": ["protocol", "net", "tasks"], "session": ["tasks", "tls"], "socketio": [],
    "presence": ["protocol", "tasks", "memcached", "session"], "benches/load": ["jwt"],
    ".": ["protocol", "jwt", "net", "tls", "tasks", "memcached", "store", "session", "socketio", "presence"],
}
PARTS = {  # part of the server: the parts that it may name; files outside the parts (limits, log, signals) may name none
    "main": ["reload", "cli", "server"], "reload": ["cli", "server", "admin"], "cli": ["server", "gateway", "pull", "tokens", "revocation", "admin"],
    "server": ["gateway", "pull", "tokens", "revocation", "admin"],
    "gateway": ["pull", "tokens"], "pull": [], "tokens": [], "revocation": ["tokens"],
    "admin": ["gateway", "pull", "tokens", "revocation"],
}
PATH = r"(?:r#)?[A-Za-z_]\w*(?:\s*::\s*(?:r#)?[A-Za-z_]\w*)+"
ITEM = re.compile(r"^\s*(?:pub(?:\([^)]*\))?\s+)?(?:(?:unsafe|async|const)\s+)*"
                  r"(?:struct|enum|union|trait|fn|const|static(?:\s+mut)?|type|macro_rules!)\s+(\w+)", re.M)
USE = re.compile(r"(?<![\w:])(pub(?:\([^)]*\))?\s+)?use\s+([^;]+);")
LITERAL = re.compile(r'//[^\n]*|/\*.*?\*/|b?r(#*)".*?"\1|b?"(?:\\.|[^"\\])*"|b?\'(?:\\.[^\']*|[^\'\\])\'', re.S)
TESTS = re.compile(r"#\[cfg\((?:all\()?test\b[^\n]*\]\s*(?:#\[[^\n]*\]\s*)*(?:pub\s+)?mod\s+\w+\s*(?:;|\{.*?^\})", re.S | re.M)

def blank(match):
    return re.sub(r"[^\n]", " ", match.group())

def leaves(text):
    """The paths of a `use`, with the names that they introduce: a::{b, c as d} is a::b and a::c as d."""
    head, brace, inner = text.strip().partition("{")
    if not brace:
        path, _, alias = head.partition(" as ")
        path = [part.strip().removeprefix("r#") for part in path.split("::")]
        path = path[:-1] if path[-1] == "self" and len(path) > 1 else path
        return [(path, alias.strip() or path[-1])]
    prefix, depth, parts = [part.strip() for part in head.split("::") if part.strip()], 0, [""]
    for char in inner[:inner.rindex("}")]:
        depth += (char == "{") - (char == "}")
        parts.append("") if char == "," and not depth else parts.__setitem__(-1, parts[-1] + char)
    return [(prefix + (path if path != ["self"] else []), name if name != "self" else prefix[-1])
            for part in parts if part.strip() for path, name in leaves(part)]

class Crate:
    def __init__(self, root):
        self.files, self.uses, self.items, self.paths, self.edges = {}, {}, {}, {}, {}
        for file in sorted((root / "src").rglob("*.rs")):
            path = file.relative_to(root / "src").with_suffix("").parts
            if "tests" not in path:
                self.read(file, path[:-1] if path[-1] in ("mod", "lib") else path)
        for module, file in self.files.items():
            for path, line, is_import in self.paths[module]:
                target = self.file_of(module, path, is_import)
                own = {file, target} if target else set()
                if len(own) == 2 and not any(one.name == "mod.rs" and one.parent in other.parents
                                             for one, other in ((file, target), (target, file))):
                    self.edges.setdefault(file, {}).setdefault(target, line)

    def read(self, file, module):
        text = TESTS.sub(blank, LITERAL.sub(blank, file.read_text()))
        self.files[module], self.items[module], self.uses[module] = file, set(ITEM.findall(text)), []
        found = self.paths[module] = []
        for use in USE.finditer(text):
            for path, name in leaves(" ".join(use[2].split())):
                self.uses[module].append((path, name))
                if not use[1]:
                    found.append((path, text[:use.start(2)].count("\n") + 1, True))
        for path in re.finditer(rf"(?<![\w:]){PATH}", USE.sub(blank, text)):
            names = [part.strip() for part in path.group().split("::")]
            found.append((names, text[:path.start()].count("\n") + 1, False))

    def file_of(self, module, path, is_import=False, seen=()):
        """The file that defines what `path` names in `module`; None for a module itself, and for other crates' names."""
        if (module, tuple(path)) in seen or len(seen) > 16:
            return None
        seen += ((module, tuple(path)),)
        at, rest = module, list(path)
        if rest[0] in ("crate", "super", "self"):
            while rest and rest[0] in ("crate", "super", "self"):
                at = {"crate": (), "super": at[:-1], "self": at}[rest.pop(0)]
        while rest:
            name = rest.pop(0)
            if at + (name,) in self.files:
                at += (name,)
                continue
            if name in self.items.get(at, ()):
                return self.files[at]
            for used, alias in self.uses.get(at, ()):
                if (alias == name and used != path) or alias == "*":
                    onward = used[:-1] + [name] if alias == "*" else used
                    target = self.file_of(at, onward + rest, seen=seen)
                    if target:
                        return target
            return None
        return None

    def circle(self):
        """The edges of a circle of imports; empty if there is none."""
        done, trail = set(), []
        def visit(file):
            if file in trail:
                return trail[trail.index(file):] + [file]
            if file not in done:
                trail.append(file)
                for target in self.edges.get(file, ()):
                    if found := visit(target):
                        return found
                trail.pop(), done.add(file)
        found = next(filter(None, map(visit, list(self.edges))), [])
        return list(zip(found, found[1:]))

def violations(root, crates=CRATES):
    for folder, allowed in crates.items():
        crate = Crate(root / folder)
        manifest = root / folder / "Cargo.toml"
        lines = manifest.read_text().splitlines()
        for name in tomllib.loads(manifest.read_text()).get("dependencies", {}):
            if name.startswith("presenced") and name.removeprefix("presenced-") not in allowed:
                line = next(n for n, text in enumerate(lines, 1) if text.startswith(name))
                yield f"{manifest}:{line}: must not depend on {name}"
        for file, target, line in ((a, b, crate.edges[a][b]) for a, b in crate.circle()):
            yield f"{file}:{line}: in a circle of imports: takes from {target}"
        for module, paths in crate.paths.items():
            file = crate.files[module]
            code = LITERAL.sub(blank, file.read_text())
            pure = re.search(r"#!\[deny\([^)]*disallowed_methods", code)
            for n, text in enumerate(TESTS.sub(blank, code).splitlines(), 1):
                if pure and re.search(r"\b(tokio|mio)\b", text):
                    yield f"{file}:{n}: a pure file must name neither tokio nor mio"
            part = module[0] if module else ""
            for path, line, _ in paths if folder == "." and part else []:
                up = len(module) - sum(1 for step in path if step == "super")
                path = path[1:] if path[0] in ("crate", "presenced") else path[len(module):] if not up and path[0] == "super" else []
                if path and path[0] in PARTS and path[0] not in PARTS.get(part, []) + [part]:
                    yield f"{file}:{line}: {part} must not name {path[0]}"

class SelfTest(unittest.TestCase):
    def violations(self, files, crates={".": []}):
        with tempfile.TemporaryDirectory() as root:
            for name, text in {"Cargo.toml": "", **files}.items():
                (Path(root) / name).parent.mkdir(parents=True, exist_ok=True)
                (Path(root) / name).write_text(text)
            return [text.removeprefix(root + "/") for text in violations(Path(root), crates)]

    def test_forbidden_parts(self):
        for text in ["use crate::server::Config;", "use crate::{log, server::{Config}};", "use super::super::server::X;",
                     "fn f() { crate::cli::duration() }", "use crate::\n    server;"]:
            self.assertIn("must not name", str(self.violations({"src/pull/http.rs": text})), text)
        self.assertIn("must not name", str(self.violations({"src/limits.rs": "use crate::cli::units;"})))
        for text in ["use crate::log;", "// crate::server::X", '"crate::server::X";', "use super::server::X;",
                     "#[cfg(test)]\nmod tests {\n    use crate::server::X;\n}\n"]:
            self.assertEqual([], self.violations({"src/pull/http.rs": text}), text)

    def test_circles_follow_names_to_the_file_that_defines_them(self):
        files = {"src/lib.rs": "mod a; mod b; pub use b::B;", "src/a.rs": "use crate::B;\npub fn f() {}",
                 "src/b.rs": "use super::a;\npub struct B;\nfn g() { a::f() }"}
        found = "src/a.rs:1: in a circle of imports: takes from "
        self.assertTrue(self.violations(files)[0].startswith(found))
        self.assertEqual([], self.violations({**files, "src/b.rs": "pub struct B;"}))
        files = {"src/c/mod.rs": "mod d; use d::D; pub struct C;", "src/c/d.rs": "use super::C; pub struct D;"}
        self.assertEqual([], self.violations(files), "one unit")

    def test_manifests_and_purity(self):
        crates = {"session": []}
        files = {"session/Cargo.toml": "[dependencies]\npresenced-memcached.workspace = true\n", "session/src/lib.rs": ""}
        self.assertIn("session/Cargo.toml:2: must not depend", self.violations(files, crates)[0])
        pure = "#![deny(clippy::disallowed_methods, clippy::disallowed_types)]\nuse tokio::time;\n"
        files = {"session/Cargo.toml": "", "session/src/wheel.rs": pure}
        self.assertIn("session/src/wheel.rs:2: a pure file", self.violations(files, crates)[0])

if __name__ == "__main__":
    if sys.argv[1:] == ["--self-test"]:
        unittest.main(argv=sys.argv[:1])
    found = list(violations(Path(".")))
    print(*found, sep="\n", end="\n" if found else "", file=sys.stderr)
    sys.exit(bool(found))
