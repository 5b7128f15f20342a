"""Writes Pacemaker's newest schema as one grammar, for tools that are started a thousand times.

    one-grammar.py FROM TO    TO gets all of FROM, with the newest pacemaker-N.rng as one file

Each tool that is given a CIB compiles the schema first, and that is two thirds of what it takes: the schema refers to
other files, whose patterns stand in each place that refers to them (rule-3.9.rng is read 18 times, score.rng 92 times).
Here they stand once each. It is the same language: what is done is section 4.5 to 4.8, 4.18 of the specification of RELAX NG.
"""
import os
import re
import sys
from copy import deepcopy

from lxml import etree

RNG = "{http://relaxng.org/ns/structure/1.0}"
TYPES = "http://www.w3.org/2001/XMLSchema-datatypes"
source, target = sys.argv[1:]
whole = etree.Element(RNG + "grammar", nsmap={None: RNG[1:-1]}, datatypeLibrary=TYPES)
# The names of the definitions that stand for what a file describes.
starts = {}
scopes = 0


def refuse(what):
    sys.exit(f"{sys.argv[0]}: {what}: this cannot be made one grammar")


def read(name):
    root = etree.parse(os.path.join(source, name)).getroot()
    if root.get("datatypeLibrary", TYPES) != TYPES:
        refuse(f"the types of {name}")
    return root


def children(node):
    return [child for child in node if isinstance(child.tag, str)]


def definitions(grammar):
    """Names with their patterns, and how they combine with others of the name; the name of the start is empty."""
    found = {}
    for part in children(grammar):
        if part.tag == RNG + "include":
            more = definitions(read(part.get("href")))
            # What stands in the include is in the place of what is included.
            more.update(definitions(part))
        elif part.tag in (RNG + "start", RNG + "define"):
            more = {part.get("name", ""): (children(part), part.get("combine"))}
        else:
            refuse(part.tag)
        for name, (patterns, how) in more.items():
            if name in found:
                others, others_how = found[name]
                how = how or others_how or refuse(f"two definitions of {name!r}")
                both = etree.Element(RNG + how)
                for one in (others, patterns):
                    etree.SubElement(both, RNG + "group").extend(deepcopy(one))
                patterns = [both]
            found[name] = patterns, how
    return found


def define(grammar, outer):
    """Adds the definitions of a grammar under names that nobody else has, and returns the name of its start."""
    global scopes
    scopes += 1
    scope = f"s{scopes}."
    for name, (patterns, _) in definitions(grammar).items():
        definition = etree.SubElement(whole, RNG + "define", name=scope + name)
        definition.extend(pattern(part, scope, outer) for part in patterns)
    return scope


def reference(name):
    return etree.Element(RNG + "ref", name=name)


def pattern(node, scope, outer):
    if node.get("datatypeLibrary", TYPES) != TYPES or node.get("ns"):
        refuse(f"{node.tag} {dict(node.attrib)}")
    if node.tag == RNG + "ref":
        return reference(scope + node.get("name"))
    if node.tag == RNG + "parentRef":
        return reference(outer + node.get("name"))
    if node.tag == RNG + "grammar":
        return reference(define(node, scope))
    if node.tag == RNG + "externalRef":
        name = node.get("href")
        if name not in starts:
            starts[name] = define(read(name), None)
        return reference(starts[name])
    new = etree.Element(node.tag, node.attrib)
    new.text = node.text
    new.extend(pattern(child, scope, outer) for child in children(node))
    return new


versions = [re.fullmatch(r"pacemaker-(\d+)\.(\d+)\.rng", name) for name in os.listdir(source)]
newest = max((v for v in versions if v), key=lambda v: (int(v[1]), int(v[2])))[0]
start = etree.SubElement(whole, RNG + "start")
start.append(reference(define(read(newest), None)))
os.mkdir(target)
for name in os.listdir(source):
    if name != newest:
        os.symlink(os.path.join(source, name), os.path.join(target, name))
etree.ElementTree(whole).write(os.path.join(target, newest), encoding="UTF-8", xml_declaration=True)
