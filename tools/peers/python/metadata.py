"""Compares WADO-RS metadata with pydicom's own reading of the same files, attribute by attribute.

usage: metadata.py DICOMWEB_URL < lines of "path<TAB>study<TAB>series<TAB>instance"
Prints one line a difference; exit status 1 when there are any.
"""
import base64
import json
import sys
import urllib.parse
import urllib.request
import warnings

import pydicom

warnings.simplefilter("ignore")
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE


def get(url, accept):
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Accept": accept})) as answer:
        return answer.read()


def same_number(ours, theirs):
    if isinstance(ours, str) or isinstance(theirs, str):
        return str(ours).strip() == str(theirs).strip() or (is_number(ours) and is_number(theirs) and float(ours) == float(theirs))
    return float(ours) == float(theirs)


def is_number(value):
    try:
        float(value)
        return True
    except (TypeError, ValueError):
        return False


def text(value):
    # Trailing padding is no part of a value (PS3.5 6.2); pydicom keeps some of it.
    return value.rstrip(" \0") if isinstance(value, str) else value


compared = 0


def compare(ours, theirs, path, report):
    global compared
    for tag in sorted(set(ours) | set(theirs)):
        here = f"{path}{tag}"
        if tag == "00080005" or tag.endswith("0000") or tag == "FFFCFFFC":
            continue
        if tag not in ours:
            report(here, "missing")
            continue
        if tag not in theirs:
            report(here, "extra")
            continue
        compared += 1
        a, b = ours[tag], theirs[tag]
        if "BulkDataURI" in a:
            continue  # the bytes are compared by the frames and bulk data tests
        if a["vr"] != b["vr"]:
            if {a["vr"], b["vr"]} <= {"OB", "OW", "UN", "US", "SS", "LT"} or "UN" in (a["vr"], b["vr"]):
                continue  # a VR that the file does not carry, or carries as UN
            report(here, f"vr {a['vr']} not {b['vr']}")
            continue
        if "InlineBinary" in a or "InlineBinary" in b:
            x = base64.b64decode(a.get("InlineBinary", ""))
            y = base64.b64decode(b.get("InlineBinary", ""))
            if x != y and x != y + b"\0":
                report(here, "binary differs")
            continue
        x, y = a.get("Value", []), b.get("Value", [])
        if a["vr"] == "SQ":
            if len(x) != len(y):
                report(here, f"{len(x)} items not {len(y)}")
                continue
            for i, (p, q) in enumerate(zip(x, y)):
                compare(p or {}, q or {}, f"{here}/{i + 1}/", report)
            continue
        if len(x) != len(y):
            if not ([v for v in x if v not in (None, "", {})] == [] and [v for v in y if v not in (None, "", {})] == []):
                report(here, f"{len(x)} values not {len(y)}")
            continue
        for p, q in zip(x, y):
            if a["vr"] == "PN":
                p = {k: v.rstrip("^ ") for k, v in (p or {}).items() if v.rstrip("^ ")}
                q = {k: v.rstrip("^ ") for k, v in (q or {}).items() if v.rstrip("^ ")}
                good = p == q
            elif a["vr"] in ("IS", "DS", "FL", "FD", "US", "SS", "UL", "SL", "SV", "UV"):
                good = (p is None and q is None) or (p is not None and q is not None and same_number(p, q))
            else:
                good = text(p) == text(q) or (p in (None, "") and q in (None, ""))
            if not good:
                report(here, f"value differs ({a['vr']})" + (f" {p!r} {q!r}" if "--show" in sys.argv else ""))
                break


def main():
    base = sys.argv[1]
    differences = 0
    checked = 0
    for line in sys.stdin:
        path, *uids = line.rstrip("\n").split("\t")
        study, series, instance = (urllib.parse.quote(uid, safe="") for uid in uids)
        url = f"{base}/studies/{study}/series/{series}/instances/{instance}/metadata"
        ours = json.loads(get(url, "application/dicom+json"))[0]
        dataset = pydicom.dcmread(path, force=True)
        try:
            theirs = json.loads(dataset.to_json(bulk_data_threshold=1 << 30, bulk_data_element_handler=lambda e: ""))
        except Exception as error:
            print(f"{path}\tpydicom cannot: {type(error).__name__}: {error}", file=sys.stderr)
            continue

        def report(tag, what):
            nonlocal differences
            differences += 1
            print(f"{path.split('/')[-1]}\t{tag}\t{what}")

        compare(ours, theirs, "", report)
        checked += 1
    print(f"{checked} instances, {compared} attributes compared, {differences} differences", file=sys.stderr)
    sys.exit(1 if differences or checked == 0 else 0)


main()
