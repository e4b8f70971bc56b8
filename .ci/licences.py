#!/usr/bin/env python3
"""Checks the crates of all targets in deny.toml: licence allowed, no crate twice, no newer Rust needed than ours.

    licences.py                               exit 1 and one line for each offence
    licences.py --direct-dependencies FILE    every direct dependency has its row (| `name` |) in FILE

A stand-in for `cargo deny check licenses bans` that reads the same deny.toml; needs Python 3.9 and cargo.
"""
import json
import re
import subprocess
import sys


def strings(text, key):
    """The strings of the list `key` in deny.toml. Python 3.9 has no TOML of its own."""
    body = re.search(r"^%s = \[(.*?)^\]" % key, text, re.M | re.S)
    if not body:
        sys.exit("deny.toml: no list " + key)
    return re.findall(r'"([^"]+)"', re.sub(r"#.*", "", body.group(1)))


def allowed(expression, allow):
    """Whether an SPDX expression can be met with the licences in `allow`. AND binds stronger than OR."""
    words = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))

    def either():
        good = both()
        while words and words[0] == "OR":
            words.pop(0)
            good = both() or good
        return good

    def both():
        good = one()
        while words and words[0] == "AND":
            words.pop(0)
            good = one() and good
        return good

    def one():
        word = words.pop(0)
        if word == "(":
            good = either()
            words.pop(0)
            return good
        if words[:1] == ["WITH"]:
            word += " WITH " + words[1]
            del words[:2]
        return word in allow

    good = either()
    if words:
        raise ValueError("not understood: " + expression)
    return good


def metadata(target):
    command = ["cargo", "metadata", "--format-version=1", "--locked", "--filter-platform", target]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def version(text):
    return tuple(int(n) for n in text.split("."))


def check_crates(text):
    allow, bad, seen, names = strings(text, "allow"), set(), {}, {}
    for target in strings(text, "targets"):
        graph = metadata(target)
        used = {node["id"] for node in graph["resolve"]["nodes"]}
        packages = [p for p in graph["packages"] if p["id"] in used]
        ours = next(p["rust_version"] for p in packages if p["name"] == "thimble")
        for p in packages:
            what = "%s %s" % (p["name"], p["version"])
            seen[what] = p["license"]
            names.setdefault((target, p["name"]), set()).add(p["version"])
            if not p["license"] or not allowed(p["license"], allow):
                bad.add("%s: licence %s is not allowed in deny.toml" % (what, p["license"]))
            if p["rust_version"] and version(p["rust_version"]) > version(ours):
                bad.add("%s: needs Rust %s, we promise %s" % (what, p["rust_version"], ours))
    for (target, name), versions in names.items():
        if len(versions) > 1:
            bad.add("%s: %d versions for %s: %s" % (name, len(versions), target, ", ".join(sorted(versions))))
    print("%d crates, %d different licence texts" % (len(seen), len(set(seen.values()))))
    return bad


def check_documented(text, path):
    graph = metadata(strings(text, "targets")[0])
    # What is shipped: thimble and its companions. Path dependencies are ours.
    shipped = [p for p in graph["packages"] if p["name"] in ("thimble", "thimble-dbus")]
    with open(path) as f:
        document = f.read()
    return {"%s: no row for `%s`, a direct dependency of %s" % (path, d["name"], p["name"])
            for p in shipped for d in p["dependencies"]
            if d["kind"] is None and not d.get("path") and "| `%s` |" % d["name"] not in document}


def self_test():
    for expression, good in [("MIT", True), ("GPL-3.0", False), ("GPL-3.0 OR MIT", True), ("MIT/GPL-2.0", True),
                             ("MIT AND GPL-3.0", False), ("(MIT OR GPL-3.0) AND ISC", True),
                             ("GPL-3.0 OR MIT AND X", False), ("MIT WITH Y", False)]:
        assert allowed(expression, ["MIT", "ISC"]) == good, expression


def main():
    self_test()
    with open("deny.toml") as f:
        text = f.read()
    if sys.argv[1:2] == ["--direct-dependencies"]:
        bad = check_documented(text, sys.argv[2])
    else:
        bad = check_crates(text)
    for line in sorted(bad):
        print(line, file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
