"""Compares WADO-RS frames with pydicom's: native ones by position, encapsulated ones by pydicom.encaps.

usage: frames.py DICOMWEB_URL < lines of "path<TAB>study<TAB>series<TAB>instance"
"""
import sys
import urllib.error
import urllib.parse
import urllib.request
import warnings

import pydicom
from pydicom.encaps import get_frame

warnings.simplefilter("ignore")
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE


def single(url):
    request = urllib.request.Request(url, headers={"Accept": "application/octet-stream; transfer-syntax=*"})
    with urllib.request.urlopen(request) as answer:
        return answer.read()


def expected(dataset, n):
    count = int(dataset.get("NumberOfFrames") or 1)
    syntax = dataset.file_meta.TransferSyntaxUID if "TransferSyntaxUID" in dataset.file_meta else pydicom.uid.ImplicitVRLittleEndian
    if syntax.is_encapsulated:
        offsets = None
        if "ExtendedOffsetTable" in dataset:
            offsets = (dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths)
        return get_frame(dataset.PixelData, n, number_of_frames=count, extended_offsets=offsets)
    keyword = next(k for k in ("PixelData", "FloatPixelData", "DoubleFloatPixelData") if k in dataset)
    raw = bytes(dataset[keyword].value)
    bits = dataset.Rows * dataset.Columns * dataset.get("SamplesPerPixel", 1) * dataset.BitsAllocated
    if dataset.get("PhotometricInterpretation") == "YBR_FULL_422":
        bits = bits * 2 // 3
    if bits % 8 == 0:
        size = bits // 8
        frame = raw[n * size : (n + 1) * size]
    else:
        start = n * bits
        value = int.from_bytes(raw[start // 8 : (start + bits + 7) // 8], "little") >> (start % 8)
        frame = (value & ((1 << bits) - 1)).to_bytes((bits + 7) // 8, "little")
    if not syntax.is_little_endian and dataset[keyword].VR == "OW":
        frame = b"".join(frame[i : i + 2][::-1] for i in range(0, len(frame), 2))
    return frame


def main():
    base = sys.argv[1]
    checked = different = without = 0
    for line in sys.stdin:
        path, *uids = line.rstrip("\n").split("\t")
        study, series, instance = (urllib.parse.quote(uid, safe="") for uid in uids)
        url = f"{base}/studies/{study}/series/{series}/instances/{instance}/frames"
        dataset = pydicom.dcmread(path, force=True)
        if not any(k in dataset for k in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
            without += 1
            continue
        count = int(dataset.get("NumberOfFrames") or 1)
        for n in sorted({0, count // 2, count - 1}):
            try:
                theirs = expected(dataset, n)
            except Exception as error:
                print(f"{path}\t{n + 1}\tpydicom cannot: {type(error).__name__}", file=sys.stderr)
                continue
            try:
                ours = single(f"{url}/{n + 1}")
            except urllib.error.HTTPError as error:
                print(f"{path.split('/')[-1]}\tframe {n + 1} of {count}\t{error.code}\t{error.read()[:200]}")
                different += 1
                continue
            if ours != theirs:
                print(f"{path.split('/')[-1]}\tframe {n + 1} of {count}\t{len(ours)} bytes not {len(theirs)}\t{dataset.file_meta.get('TransferSyntaxUID')}")
                different += 1
            checked += 1
        try:
            single(f"{url}/{count + 1}")
            print(f"{path}\tframe {count + 1} of {count} was answered")
            different += 1
        except urllib.error.HTTPError as error:
            if error.code != 404:
                print(f"{path}\tframe past the end: {error.code}")
                different += 1
    print(f"{checked} frames compared, {different} different, {without} instances without pixels", file=sys.stderr)
    sys.exit(1 if different or checked == 0 else 0)


main()
