"""dicomweb-client against a Gantry that holds the files: every search, retrieval and deletion that it knows.

usage: dicomweb.py DICOMWEB_URL < lines of "path<TAB>study<TAB>series<TAB>instance"; differences go to stdout, a summary to stderr.
The files are there already, except one study that this program stores and deletes itself.
"""
import collections
import copy
import hashlib
import logging
import sys
import warnings
from io import BytesIO

import dicomweb_client.web as web
import pydicom
from pydicom.uid import generate_uid
from requests.exceptions import HTTPError

warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE

AS_STORED = (("application/dicom", "*"),)
checks = collections.Counter()


def differ(what, *where):
    print(what, *where)


def digest(content):
    return hashlib.sha256(content).hexdigest()


class Kept:
    """What dcmread was given, so that bytes can be compared where the client only hands out data sets."""

    def __init__(self):
        self.digests = []
        read = pydicom.dcmread

        def dcmread(stream, *args, **kwargs):
            if isinstance(stream, BytesIO):
                self.digests.append(digest(stream.getvalue()))
            return read(stream, *args, force=True, **kwargs)

        web.pydicom = type("pydicom", (), {**vars(pydicom), "dcmread": staticmethod(dcmread)})

    def take(self):
        taken, self.digests = self.digests, []
        return taken


def status_of(call, *args, **kwargs):
    try:
        call(*args, **kwargs)
        return 200
    except HTTPError as error:
        return error.response.status_code


def value(row, tag):
    return (row.get(tag, {}).get("Value") or [None])[0]


def searches(client, studies):
    found = client.search_for_studies(limit=10000, fields=["00081030", "StudyDescription"])
    if {value(row, "0020000D") for row in found} != set(studies):
        differ("search_for_studies finds others:", len(found), len(studies))
    remaining = client.search_for_studies(limit=7, get_remaining=True)
    if sorted(value(row, "0020000D") for row in remaining) != sorted(studies):
        differ("get_remaining in pages of 7 finds others:", len(remaining), len(studies))
    paged = client.search_for_studies(limit=5, offset=5)
    if paged != client.search_for_studies(limit=10)[5:]:
        differ("offset=5 is not the second half of limit=10")
    for study, series in studies.items():
        rows = client.search_for_series(study)
        if {value(row, "0020000E") for row in rows} != set(series):
            differ("search_for_series", study)
        checks["series searches"] += 1
        for uid, instances in series.items():
            rows = client.search_for_instances(study, uid, limit=10000)
            if {value(row, "00080018") for row in rows} != set(instances):
                differ("search_for_instances", study, uid)
            rows = client.search_for_instances(search_filters={"StudyInstanceUID": study, "SeriesInstanceUID": uid}, limit=10000, fields=["00280010"])
            if {value(row, "00080018") for row in rows} != set(instances):
                differ("relational search_for_instances", study, uid)
            checks["instance searches"] += 2
    name = next((n["Alphabetic"] for n in (value(row, "00100010") for row in found) if n and "^" in n.get("Alphabetic", "")), None)
    if name:
        family = name.split("^")[0]
        for filters, fuzzy in (({"PatientName": family[:3].lower() + "*"}, False), ({"PatientName": family}, True)):
            rows = client.search_for_studies(search_filters=filters, fuzzymatching=fuzzy, limit=10000)
            if not any(value(row, "00100010") == {"Alphabetic": name} or name in str(value(row, "00100010")) for row in rows):
                differ("a name is not found, fuzzy:", fuzzy)
            checks["name searches"] += 1


def retrievals(client, kept, studies):
    for study, series in studies.items():
        for uid, instances in series.items():
            for instance, path in instances.items():
                with open(path, "rb") as file:
                    stored = file.read()
                kept.take()
                client.retrieve_instance(study, uid, instance, media_types=AS_STORED)
                if kept.take() != [digest(stored)]:
                    differ("retrieve_instance, as stored:", path)
                checks["instances"] += 1
            expected = collections.Counter(digest(open(path, "rb").read()) for path in instances.values())
            client.retrieve_series(study, uid, media_types=AS_STORED)
            if collections.Counter(kept.take()) != expected:
                differ("retrieve_series", study, uid)
            metadata = client.retrieve_series_metadata(study, uid)
            if {value(row, "00080018") for row in metadata} != set(instances):
                differ("retrieve_series_metadata", study, uid)
            checks["series"] += 1
            for row in metadata:
                instance = value(row, "00080018")
                if client.retrieve_instance_metadata(study, uid, instance) != row:
                    differ("the metadata of an instance is not its part of the series'", instance)
                bulk(client, row, instances[instance])
                frames(client, row, (study, uid, instance), instances[instance])
        expected = collections.Counter(
            digest(open(path, "rb").read()) for instances in series.values() for path in instances.values()
        )
        for streamed in (False, True):
            list(client.iter_study(study, media_types=AS_STORED)) if streamed else client.retrieve_study(study, media_types=AS_STORED)
            if collections.Counter(kept.take()) != expected:
                differ("retrieve_study", study, streamed)
        # Without a transfer syntax: Explicit VR Little Endian, or 406 where that would need a decoder.
        answer = status_of(client.retrieve_study, study)
        if answer not in (200, 406):
            differ("retrieve_study in the default transfer syntax:", answer, study)
        kept.take()
        checks["studies"] += 1


def bulk(client, row, path):
    for tag, attribute in row.items():
        uri = attribute.get("BulkDataURI")
        if uri is None or tag in ("7FE00010", "7FE00008", "7FE00009"):
            continue
        dataset = pydicom.dcmread(path, force=True)
        expected = bytes(dataset[int(tag, 16)].value)
        try:
            (got,) = client.retrieve_bulkdata(uri, media_types=("application/octet-stream",))
        except HTTPError as error:
            differ("retrieve_bulkdata:", error.response.status_code, tag, path)
            continue
        if dataset.original_encoding[1] and got.rstrip(b"\0") != expected.rstrip(b"\0"):
            differ("retrieve_bulkdata", tag, path)
        checks["bulk values"] += 1


def frames(client, row, uids, path):
    if not any(tag in row for tag in ("7FE00010", "7FE00008", "7FE00009")):
        return
    count = min(int(value(row, "00280008") or 1), 3)
    numbers = list(range(1, count + 1))
    try:
        parts = client.retrieve_instance_frames(*uids, frame_numbers=numbers, media_types=(("application/octet-stream", "*"),))
    except HTTPError as error:
        # A video has no frames apart, and one file says nothing of where they lie: refused, not guessed.
        if error.response.status_code not in (404, 406):
            differ("retrieve_instance_frames:", error.response.status_code, path)
        checks["frames refused"] += 1
        return
    single = [client.retrieve_instance_frames(*uids, frame_numbers=[n], media_types=(("application/octet-stream", "*"),))[0] for n in numbers]
    if parts != single:
        differ("several frames are not the single ones", path)
    try:
        if client.retrieve_instance_frames(*uids, frame_numbers=numbers) != parts:
            differ("frames with a wildcard Accept differ", path)
    except HTTPError as error:
        differ("frames with a wildcard Accept:", error.response.status_code, path)
    checks["frames"] += len(parts)


def store_and_delete(client, kept, path):
    first = pydicom.dcmread(path, force=True)
    study, series = generate_uid(), [generate_uid(), generate_uid()]
    datasets = []
    for n in range(4):
        dataset = copy.deepcopy(first)
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID = study, series[n // 2], generate_uid()
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        datasets.append(dataset)
    written = []
    for dataset in datasets:
        file = BytesIO()
        pydicom.dcmwrite(file, dataset)
        written.append(digest(file.getvalue()))
    answer = client.store_instances(datasets, study_instance_uid=study)
    stored = [item.ReferencedSOPInstanceUID for item in answer.ReferencedSOPSequence]
    if sorted(stored) != sorted(dataset.SOPInstanceUID for dataset in datasets) or "FailedSOPSequence" in answer:
        differ("store_instances answers others")
    kept.take()
    client.retrieve_study(study, media_types=AS_STORED)
    if sorted(kept.take()) != sorted(written):
        differ("what was stored does not come back byte for byte")
    one = datasets[0]
    client.delete_instance(study, one.SeriesInstanceUID, one.SOPInstanceUID)
    if len(client.search_for_instances(study)) != 3:
        differ("delete_instance")
    client.delete_series(study, series[1])
    if [value(row, "0020000E") for row in client.search_for_series(study)] != [series[0]]:
        differ("delete_series")
    client.delete_study(study)
    if client.search_for_studies(search_filters={"StudyInstanceUID": study}) or status_of(client.retrieve_study_metadata, study) != 404:
        differ("delete_study")
    if status_of(client.delete_study, study) != 404:
        differ("a study that is not there was deleted")
    checks["stored"] += len(datasets)


def main():
    client = web.DICOMwebClient(sys.argv[1])
    studies = collections.defaultdict(lambda: collections.defaultdict(dict))
    for line in sys.stdin.read().split("\n"):
        if line:
            path, study, series, instance = line.split("\t")
            studies[study][series][instance] = path
    kept = Kept()
    searches(client, studies)
    retrievals(client, kept, studies)
    plain = next(
        path
        for series in studies.values()
        for instances in series.values()
        for path in instances.values()
        if pydicom.dcmread(path, force=True, stop_before_pixels=True).file_meta.get("TransferSyntaxUID") == "1.2.840.10008.1.2.1"
    )
    store_and_delete(client, kept, plain)
    print(", ".join(f"{n} {what}" for what, n in sorted(checks.items())), file=sys.stderr)


main()
