"""Whether Pacemaker's schema and the one grammar that is made of it (one-grammar.py) judge alike: a CIB, and what comes of it when one
thing is changed, each kind of element in each way.

    same-language.py CIB SCHEMA SCHEMA    prints how many were valid and how many were not, and `differ: ...` for what they differ in
"""
import sys
from copy import deepcopy

from lxml import etree

cib, *schemas = sys.argv[1:]
document = etree.parse(cib)
first, second = (etree.RelaxNG(etree.parse(schema)) for schema in schemas)
judged = {True: 0, False: 0}


def judge(what):
    # A copy: libxml2 keeps of a document which ids it has seen, and calls one that was taken away and put back a second one.
    one, other = (schema.validate(deepcopy(document)) for schema in (first, second))
    judged[one] += 1
    if one != other:
        print(f"differ: {what}: {one}, {other}")


judge("as it is")
seen = set()
for element in list(document.iter(tag=etree.Element)):
    kind = (element.tag, element.getparent() is not None and element.getparent().tag, *sorted(element.attrib))
    if kind in seen:
        continue
    seen.add(kind)
    for name, value in list(element.attrib.items()):
        del element.attrib[name]
        judge(f"{kind} without {name}")
        for other in ("", "x y", "INFINITY", "-1"):
            element.set(name, other)
            judge(f"{kind} with {name}={other!r}")
        element.set(name, value)
    element.set("unknown", "1")
    judge(f"{kind} with what is unknown")
    del element.attrib["unknown"]
    tag = element.tag
    for other in ("unknown", "rule", "nvpair", "primitive"):
        element.tag = other
        judge(f"{kind} as {other}")
    element.tag = tag
    parent = element.getparent()
    if parent is None:
        continue
    place = parent.index(element)
    parent.remove(element)
    judge(f"{kind} left out")
    parent.append(element)
    judge(f"{kind} at the end")
    parent.insert(0, element)
    judge(f"{kind} at the beginning")
    parent.remove(element)
    parent.insert(place, element)
print(judged[True], judged[False])
