"""pynetdicom and dicomweb-client in one scenario: what either stores the other finds, retrieves and deletes. Asserted here.

usage: scenario.py < a JSON object: http, token, host, port, called, calling (wants its commitment reports on the same association), study
"""
import json
import logging
import sys
import threading
import time
import warnings

import requests
from dicomweb_client.web import DICOMwebClient
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE, build_role, evt
from pynetdicom.dsutils import encode
from pynetdicom.sop_class import (
    CTImageStorage,
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelFind as FIND,
    StudyRootQueryRetrieveInformationModelGet as GET,
    Verification,
)

warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)
GIVEN = json.load(sys.stdin)
STUDY = GIVEN["study"]
VISIBLE_S = 30
AS_STORED = (("application/dicom", "*"),)


def instance(series, n):
    ds = Dataset()
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = generate_uid()
    ds.StudyDate = "20240229"
    ds.Modality = "CT"
    ds.PatientName = "Scenario^Python"
    ds.PatientID = "SCN-" + STUDY[-10:]
    ds.StudyInstanceUID = STUDY
    ds.SeriesInstanceUID = series
    ds.InstanceNumber = n
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows = ds.Columns = 16
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit = 7
    ds.PixelRepresentation = 0
    ds.PixelData = bytes([n % 256]) * 256
    ds["PixelData"].VR = "OB"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = CTImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    return ds


def associate(*contexts, **options):
    ae = AE(ae_title=GIVEN["calling"])
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 60
    for context in contexts:
        ae.add_requested_context(context, ExplicitVRLittleEndian)
    assoc = ae.associate(GIVEN["host"], GIVEN["port"], ae_title=GIVEN["called"], **options)
    assert assoc.is_established, "no association"
    return assoc


def find(assoc, level, **keys):
    query = Dataset()
    query.QueryRetrieveLevel = level
    for name, value in keys.items():
        setattr(query, name, value)
    *rows, (final, _) = assoc.send_c_find(query, FIND)
    assert final.Status == 0, hex(final.Status)
    return [ds for _, ds in rows]


def retrieve_by_get():
    got = {}

    def on_store(event):
        got[event.request.AffectedSOPInstanceUID] = event.request.DataSet.getvalue()
        return 0

    role = build_role(CTImageStorage, scp_role=True)
    assoc = associate(GET, CTImageStorage, ext_neg=[role], evt_handlers=[(evt.EVT_C_STORE, on_store)])
    query = Dataset()
    query.QueryRetrieveLevel = "STUDY"
    query.StudyInstanceUID = STUDY
    final = list(assoc.send_c_get(query, GET))[-1][0]
    assoc.release()
    assert final.Status == 0, hex(final.Status)
    assert final.NumberOfCompletedSuboperations == len(got)
    return got


def eventually(what, look):
    end = time.monotonic() + VISIBLE_S
    while not look():
        assert time.monotonic() < end, f"{what}: not within {VISIBLE_S} s"
        time.sleep(0.05)


def own(look):
    """A sender's own queries wait for its own instances, 5 s at most: an answer that came sooner must have them."""

    def waited():
        asked = time.monotonic()
        if look():
            return True
        assert time.monotonic() - asked >= 5, "answered without what its sender had stored"
        return False

    eventually("a sender's own instance", waited)


def commit(datasets, absent):
    reports, arrived = [], threading.Event()

    def on_report(event):
        reports.append((event.request.EventTypeID, event.event_information))
        arrived.set()
        return 0, None

    assoc = associate(StorageCommitmentPushModel, evt_handlers=[(evt.EVT_N_EVENT_REPORT, on_report)])
    request = Dataset()
    request.TransactionUID = generate_uid()
    request.ReferencedSOPSequence = Sequence()
    for uid in [ds.SOPInstanceUID for ds in datasets] + [absent]:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CTImageStorage, uid
        request.ReferencedSOPSequence.append(item)
    status, _ = assoc.send_n_action(request, 1, StorageCommitmentPushModel, "1.2.840.10008.1.20.1.1")
    assert status.Status == 0, status
    assert arrived.wait(60), "no report"
    assoc.release()
    (event_type, report), = reports
    assert event_type == 2 and report.TransactionUID == request.TransactionUID
    assert [item.ReferencedSOPInstanceUID for item in report.ReferencedSOPSequence] == [ds.SOPInstanceUID for ds in datasets]
    assert [(item.ReferencedSOPInstanceUID, item.FailureReason) for item in report.FailedSOPSequence] == [(absent, 0x0112)]


def main():
    series = [generate_uid(), generate_uid()]
    sent = [instance(series[n // 3], n + 1) for n in range(6)]
    assoc = associate(Verification, CTImageStorage, FIND)
    assert assoc.send_c_echo().Status == 0
    for n, ds in enumerate(sent):
        assert assoc.send_c_store(ds).Status == 0
        own(
            lambda: [
                int(row.NumberOfStudyRelatedInstances)
                for row in find(assoc, "STUDY", StudyInstanceUID=STUDY, NumberOfStudyRelatedInstances="")
            ]
            == [n + 1]
        )
    rows = find(assoc, "SERIES", StudyInstanceUID=STUDY, SeriesInstanceUID="", Modality="")
    assert sorted((row.SeriesInstanceUID, row.Modality) for row in rows) == sorted((uid, "CT") for uid in series)
    rows = find(assoc, "IMAGE", StudyInstanceUID=STUDY, SeriesInstanceUID=series[1], SOPInstanceUID="")
    assert sorted(row.SOPInstanceUID for row in rows) == sorted(ds.SOPInstanceUID for ds in sent[3:])
    assoc.release()
    got = retrieve_by_get()
    assert got == {ds.SOPInstanceUID: encode(ds, False, True) for ds in sent}, "bytes changed on the way"
    commit(sent, generate_uid())

    session = requests.Session()
    if GIVEN["token"]:
        session.headers["Authorization"] = f"Bearer {GIVEN['token']}"
    web = DICOMwebClient(f"{GIVEN['http']}/dicom-web", session=session)
    uids = lambda rows: sorted(row["00080018"]["Value"][0] for row in rows)
    everything = sorted(ds.SOPInstanceUID for ds in sent)
    eventually("QIDO-RS of what came by C-STORE", lambda: uids(web.search_for_instances(STUDY)) == everything)
    assert sorted(ds.SOPInstanceUID for ds in web.retrieve_study(STUDY, media_types=AS_STORED)) == everything
    for ds in sent:
        back = web.retrieve_instance(STUDY, ds.SeriesInstanceUID, ds.SOPInstanceUID, media_types=AS_STORED)
        assert encode(back, False, True) == encode(ds, False, True), "bytes changed on the way"
        assert web.retrieve_instance_frames(STUDY, ds.SeriesInstanceUID, ds.SOPInstanceUID, [1]) == [ds.PixelData]
    late = instance(series[0], 7)
    answer = web.store_instances([late])
    assert [item.ReferencedSOPInstanceUID for item in answer.ReferencedSOPSequence] == [late.SOPInstanceUID]
    eventually("C-GET of what came by STOW-RS", lambda: late.SOPInstanceUID in retrieve_by_get())
    web.delete_series(STUDY, series[1])
    assert uids(web.search_for_instances(STUDY)) == sorted(ds.SOPInstanceUID for ds in [*sent[:3], late])
    eventually("C-GET without what was deleted", lambda: len(retrieve_by_get()) == 4)


main()
