"""pynetdicom as a peer of Gantry's DIMSE door: one scenario a run, asserted here, so that none of our code judges itself.

usage: dimse.py SCENARIO GANTRY_PORT OWN_PORT
"""
import os
import sys
import threading
import time
import traceback

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit, generate_uid
from pynetdicom import AE, build_role, evt
from pynetdicom.pdu_primitives import (
    AsynchronousOperationsWindowNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)
from pynetdicom.sop_class import (
    CTImageStorage,
    PatientRootQueryRetrieveInformationModelFind,
    PatientRootQueryRetrieveInformationModelMove,
    PatientStudyOnlyQueryRetrieveInformationModelFind,
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
WELL_KNOWN = "1.2.840.10008.1.20.1.1"
GANTRY = int(sys.argv[2])
OWN = int(sys.argv[3])


def instance(study, series, n, patient, compressed=False):
    ds = Dataset()
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = f"{series}.{n}"
    ds.StudyInstanceUID = study
    ds.SeriesInstanceUID = series
    ds.StudyDate = "20240229"
    ds.StudyTime = "101112"
    ds.AccessionNumber = f"A{study[-1]}"
    ds.StudyID = "S1"
    ds.Modality = "CT"
    ds.SeriesNumber = 1
    ds.InstanceNumber = n
    ds.PatientName = "Peer^Python"
    ds.PatientID = patient
    ds.Rows = ds.Columns = 16
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit = 7
    ds.PixelRepresentation = 0
    ds.PixelData = encapsulate([bytes([0xFF, 0xD8, n % 256, 0xFF, 0xD9])]) if compressed else bytes([n % 256]) * 256
    ds["PixelData"].VR = "OB"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = JPEGBaseline8Bit if compressed else ExplicitVRLittleEndian
    return ds


STUDIES = {
    "1.2.276.1": [instance("1.2.276.1", "1.2.276.1.1", n, "PY1") for n in range(1, 6)],
    "1.2.276.2": [instance("1.2.276.2", "1.2.276.2.1", n, "PY1") for n in range(1, 3)]
    + [instance("1.2.276.2", "1.2.276.2.2", 3, "PY1", compressed=True)],
    "1.2.276.3": [instance("1.2.276.3", "1.2.276.3.1", 1, "PY2")],
}


def entity(title="PYSCU"):
    ae = AE(ae_title=title)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 60
    return ae


def associate(ae, **options):
    assoc = ae.associate("127.0.0.1", GANTRY, ae_title="GANTRY", **options)
    assert assoc.is_established, "no association"
    return assoc


def identifier(level, **keys):
    ds = Dataset()
    if level:
        ds.QueryRetrieveLevel = level
    for name, value in keys.items():
        setattr(ds, name, value)
    return ds


def store():
    ae = entity()
    ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    ae.add_requested_context(CTImageStorage, JPEGBaseline8Bit)
    ae.add_requested_context(Verification)
    assoc = associate(ae)
    assert assoc.send_c_echo().Status == 0
    for instances in STUDIES.values():
        for ds in instances:
            assert assoc.send_c_store(ds).Status == 0
    broken = instance("1.2.276.9", "1.2.276.9.1", 1, "PY9")
    del broken.StudyInstanceUID
    answer = assoc.send_c_store(broken)
    assert answer.Status == 0xA900 and answer.OffendingElement == 0x0020000D, answer
    assoc.release()
    assert assoc.is_released


def rows(assoc, query, model):
    found = list(assoc.send_c_find(query, model))
    assert found[-1][0].Status == 0, hex(found[-1][0].Status)
    assert all(status.Status in (0xFF00, 0xFF01) for status, _ in found[:-1])
    return [ds for _, ds in found[:-1]]


def find():
    patient, study, only = (
        PatientRootQueryRetrieveInformationModelFind,
        StudyRootQueryRetrieveInformationModelFind,
        PatientStudyOnlyQueryRetrieveInformationModelFind,
    )
    ae = entity()
    for model in (patient, study, only):
        ae.add_requested_context(model, SYNTAXES)
    assoc = associate(ae)
    got = rows(assoc, identifier("PATIENT", PatientID="PY*", PatientName=""), patient)
    assert sorted(ds.PatientID for ds in got) == ["PY1", "PY2"], got
    assert all(str(ds.PatientName) == "Peer^Python" for ds in got)
    got = rows(assoc, identifier("STUDY", PatientID="PY1", StudyInstanceUID=""), patient)
    assert sorted(ds.StudyInstanceUID for ds in got) == ["1.2.276.1", "1.2.276.2"]
    got = rows(assoc, identifier("STUDY", PatientID="PY2", StudyInstanceUID=""), only)
    assert [ds.StudyInstanceUID for ds in got] == ["1.2.276.3"]
    got = rows(
        assoc,
        identifier(
            "STUDY",
            StudyInstanceUID="",
            StudyDate="20240201-20240301",
            PatientName="peer^*",
            ModalitiesInStudy="CT",
            NumberOfStudyRelatedInstances="",
        ),
        study,
    )
    assert {ds.StudyInstanceUID: int(ds.NumberOfStudyRelatedInstances) for ds in got} == {
        "1.2.276.1": 5,
        "1.2.276.2": 3,
        "1.2.276.3": 1,
    }, got
    assert all(ds.RetrieveAETitle == "GANTRY" and ds.InstanceAvailability == "ONLINE" for ds in got)
    got = rows(assoc, identifier("SERIES", StudyInstanceUID="1.2.276.2", SeriesInstanceUID="", Modality=""), study)
    assert sorted(ds.SeriesInstanceUID for ds in got) == ["1.2.276.2.1", "1.2.276.2.2"]
    got = rows(
        assoc,
        identifier(
            "IMAGE",
            StudyInstanceUID="1.2.276.1",
            SeriesInstanceUID="1.2.276.1.1",
            SOPInstanceUID="",
            InstanceNumber="3",
            Rows=None,
        ),
        study,
    )
    assert [(ds.SOPInstanceUID, int(ds.Rows)) for ds in got] == [("1.2.276.1.1.3", 16)], got
    # A list of UIDs, and nothing that matches.
    got = rows(assoc, identifier("STUDY", StudyInstanceUID=["1.2.276.1", "1.2.276.3", "9.9"]), study)
    assert len(got) == 2
    assert rows(assoc, identifier("STUDY", StudyInstanceUID="9.9"), study) == []
    # Without relational queries negotiated.
    status, _ = list(assoc.send_c_find(identifier("IMAGE", SOPInstanceUID="1.2.276.1.1.3"), study))[-1]
    assert status.Status == 0xA900, status
    assoc.release()


def relational():
    model = StudyRootQueryRetrieveInformationModelFind
    ae = entity()
    ae.add_requested_context(model, SYNTAXES)
    item = SOPClassExtendedNegotiation()
    item.sop_class_uid = model
    item.service_class_application_information = b"\x01\x01\x00\x00"
    assoc = associate(ae, ext_neg=[item])
    assert assoc.acceptor.sop_class_extended == {model: b"\x01\x01\x00\x00"}, assoc.acceptor.sop_class_extended
    got = rows(assoc, identifier("IMAGE", SOPInstanceUID="1.2.276.1.1.3", StudyInstanceUID=""), model)
    assert [ds.StudyInstanceUID for ds in got] == ["1.2.276.1"]
    got = rows(assoc, identifier("SERIES", PatientID="PY1", SeriesInstanceUID=""), model)
    assert len(got) == 3
    assoc.release()


def cancel():
    model = StudyRootQueryRetrieveInformationModelFind
    ae = entity()
    ae.add_requested_context(model, ExplicitVRLittleEndian)
    item = SOPClassExtendedNegotiation()
    item.sop_class_uid = model
    item.service_class_application_information = b"\x01"

    parts = []

    def sent(event):
        # Right behind the request: its command, and its identifier.
        if type(event.pdu).__name__ == "P_DATA_TF":
            parts.append(event.pdu)
            if len(parts) == 2:
                event.assoc.send_c_cancel(1, query_model=model)

    assoc = associate(ae, ext_neg=[item], evt_handlers=[(evt.EVT_PDU_SENT, sent)])
    found = list(assoc.send_c_find(identifier("IMAGE", SOPInstanceUID=""), model, msg_id=1))
    assert found[-1][0].Status == 0xFE00, hex(found[-1][0].Status)
    # The association goes on.
    found = list(assoc.send_c_find(identifier("STUDY", StudyInstanceUID="1.3.9"), model, msg_id=2))
    assert [status.Status for status, _ in found] == [0xFF00, 0]
    assoc.release()


class Receiver:
    """A storage SCP that counts, delays and refuses."""

    def __init__(self, syntaxes=SYNTAXES, delay=0.0, refuse=()):
        self.got, self.originators, self.associations = {}, set(), 0
        ae = entity("PYSCP")
        ae.add_supported_context(CTImageStorage, syntaxes)
        ae.add_supported_context(Verification)

        def on_store(event):
            time.sleep(delay)
            uid = event.request.AffectedSOPInstanceUID
            if uid in refuse:
                return 0xA700
            self.got[uid] = (event.context.transfer_syntax, event.request.DataSet.getvalue())
            self.originators.add((event.request.MoveOriginatorApplicationEntityTitle, event.request.MoveOriginatorMessageID))
            return 0

        def on_accepted(_):
            self.associations += 1

        handlers = [(evt.EVT_C_STORE, on_store), (evt.EVT_ACCEPTED, on_accepted)]
        self.server = ae.start_server(("127.0.0.1", OWN), block=False, evt_handlers=handlers)

    def stop(self):
        self.server.shutdown()


def encoded(ds):
    from pynetdicom.dsutils import encode

    return encode(ds, False, True)


def moving(query, destination="PYSCP", model=StudyRootQueryRetrieveInformationModelMove):
    ae = entity()
    ae.add_requested_context(model, SYNTAXES)
    assoc = associate(ae)
    answers = []
    for status, ds in assoc.send_c_move(query, destination, model, msg_id=11):
        answers.append((time.monotonic(), status, ds))
    assoc.release()
    return answers


def counts(status):
    return tuple(
        getattr(status, f"NumberOf{name}Suboperations", None) for name in ("Remaining", "Completed", "Failed", "Warning")
    )


def move():
    receiver = Receiver()
    answers = moving(identifier("STUDY", StudyInstanceUID="1.2.276.1"))
    assert answers[-1][1].Status == 0 and counts(answers[-1][1]) == (None, 5, 0, 0), answers[-1][1]
    live = [counts(status) for _, status, _ in answers[:-1]]
    assert live == [(5 - n, n, 0, 0) for n in range(1, 5)], live
    for ds in STUDIES["1.2.276.1"]:
        assert receiver.got[ds.SOPInstanceUID][1] == encoded(ds), "bytes changed on the way"
    assert receiver.originators == {("PYSCU", 11)}, receiver.originators
    assert receiver.associations == 1
    # Patient Root, by patient.
    receiver.got.clear()
    model = PatientRootQueryRetrieveInformationModelMove
    assert moving(identifier("PATIENT", PatientID="PY2"), model=model)[-1][1].Status == 0
    assert list(receiver.got) == ["1.2.276.3.1.1"]
    # Nothing matched: nobody is called.
    before = receiver.associations
    answers = moving(identifier("STUDY", StudyInstanceUID="9.9"))
    assert [status.Status for _, status, _ in answers] == [0] and receiver.associations == before
    assert moving(identifier("STUDY", StudyInstanceUID="1.2.276.1"), "NOBODY")[-1][1].Status == 0xA801
    assert moving(identifier("STUDY", StudyInstanceUID="1.2.*"))[-1][1].Status == 0xA900
    # To Gantry itself.
    assert counts(moving(identifier("STUDY", StudyInstanceUID="1.2.276.1"), "GANTRY")[-1][1]) == (None, 5, 0, 0)
    receiver.stop()


def failures():
    receiver = Receiver(refuse={"1.2.276.1.1.2", "1.2.276.1.1.4"})
    _, status, ds = moving(identifier("STUDY", StudyInstanceUID="1.2.276.1"))[-1]
    assert status.Status == 0xB000 and counts(status) == (None, 3, 2, 0), status
    assert list(ds.FailedSOPInstanceUIDList) == ["1.2.276.1.1.2", "1.2.276.1.1.4"], ds
    # JPEG, which this receiver does not take.
    _, status, ds = moving(identifier("STUDY", StudyInstanceUID="1.2.276.2"))[-1]
    assert status.Status == 0xB000 and counts(status) == (None, 2, 1, 0), status
    assert ds.FailedSOPInstanceUIDList == "1.2.276.2.2.3", ds
    receiver.stop()
    # Nobody listens any more.
    _, status, ds = moving(identifier("STUDY", StudyInstanceUID="1.2.276.1"))[-1]
    assert status.Status == 0xA702 and len(ds.FailedSOPInstanceUIDList) == 5, status
    # Implicit only: uncompressed sets are rewritten.
    receiver = Receiver(syntaxes=[ImplicitVRLittleEndian])
    assert moving(identifier("STUDY", StudyInstanceUID="1.2.276.3"))[-1][1].Status == 0
    (syntax, data), = receiver.got.values()
    assert syntax == ImplicitVRLittleEndian
    from pynetdicom.dsutils import decode
    from io import BytesIO

    got = decode(BytesIO(data), True, True)
    want = STUDIES["1.2.276.3"][0]
    assert got.PatientID == want.PatientID and got.PixelData == want.PixelData and len(got) == len(want)
    receiver.stop()


def slow():
    receiver = Receiver(delay=1.0)  # dimse.pendingMs is 200
    answers = moving(identifier("SERIES", StudyInstanceUID="1.2.276.2", SeriesInstanceUID="1.2.276.2.1"))
    assert answers[-1][1].Status == 0
    first = [status for _, status, _ in answers if counts(status)[:2] == (2, 0)]
    assert len(first) >= 2, "pending responses while the first instance is on its way"
    receiver.stop()


def get():
    model = StudyRootQueryRetrieveInformationModelGet
    got = {}

    def on_store(event):
        got[event.request.AffectedSOPInstanceUID] = event.request.DataSet.getvalue()
        return 0 if event.request.AffectedSOPInstanceUID != "1.2.276.1.1.5" else 0xA700

    ae = entity()
    ae.add_requested_context(model, SYNTAXES)
    ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    role = build_role(CTImageStorage, scp_role=True)
    assoc = associate(ae, ext_neg=[role], evt_handlers=[(evt.EVT_C_STORE, on_store)])
    answers = list(assoc.send_c_get(identifier("STUDY", StudyInstanceUID="1.2.276.1"), model))
    status, ds = answers[-1]
    assert status.Status == 0xB000 and counts(status) == (None, 4, 1, 0), status
    assert ds.FailedSOPInstanceUIDList == "1.2.276.1.1.5"
    for want in STUDIES["1.2.276.1"]:
        assert got[want.SOPInstanceUID] == encoded(want)
    assoc.release()
    # Without role selection nothing can be sent.
    assoc = associate(ae)
    status, _ = list(assoc.send_c_get(identifier("STUDY", StudyInstanceUID="1.2.276.3"), model))[-1]
    assert status.Status == 0xA702, status
    assoc.release()


def commitment():
    reports, arrived = [], threading.Event()

    def on_report(event):
        reports.append((event.request.EventTypeID, event.event_information))
        arrived.set()
        return 0, None

    scp = entity("PYSCU")
    # We stay SCU of the service although Gantry calls us: it proposes to be SCP.
    scp.add_supported_context(StorageCommitmentPushModel, SYNTAXES, scu_role=False, scp_role=True)
    server = scp.start_server(("127.0.0.1", OWN), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, on_report)])

    def ask(references):
        ae = entity()
        ae.add_requested_context(StorageCommitmentPushModel, SYNTAXES)
        assoc = associate(ae)
        ds = Dataset()
        ds.TransactionUID = generate_uid()
        ds.ReferencedSOPSequence = Sequence()
        for sop_class, uid in references:
            item = Dataset()
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, uid
            ds.ReferencedSOPSequence.append(item)
        status, _ = assoc.send_n_action(ds, 1, StorageCommitmentPushModel, WELL_KNOWN)
        assoc.release()
        return status.Status, ds

    status, asked = ask([(CTImageStorage, ds.SOPInstanceUID) for ds in STUDIES["1.2.276.1"]])
    assert status == 0
    assert arrived.wait(60)
    event_type, ds = reports[0]
    assert event_type == 1 and ds.TransactionUID == asked.TransactionUID
    assert len(ds.ReferencedSOPSequence) == 5 and "FailedSOPSequence" not in ds
    assert ds.RetrieveAETitle == "GANTRY"
    arrived.clear()
    status, asked = ask([(CTImageStorage, "1.2.276.1.1.1"), (CTImageStorage, "9.9.9")])
    assert status == 0 and arrived.wait(60)
    event_type, ds = reports[1]
    assert event_type == 2 and ds.FailedSOPSequence[0].FailureReason == 0x0112, ds
    assert ds.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "1.2.276.1.1.1"
    assert ask([])[0] == 0x0115
    server.shutdown()


def negotiation():
    identity = UserIdentityNegotiation()
    identity.user_identity_type = 2
    identity.primary_field, identity.secondary_field = b"user", b"secret"
    identity.positive_response_requested = True
    window = AsynchronousOperationsWindowNegotiation()
    window.maximum_number_operations_invoked = 8
    window.maximum_number_operations_performed = 8
    ae = entity()
    ae.add_requested_context(Verification)
    assoc = associate(ae, ext_neg=[identity, window])
    assert assoc.acceptor.user_identity is None
    assert assoc.acceptor.asynchronous_operations == (1, 1), assoc.acceptor.asynchronous_operations
    assert assoc.send_c_echo().Status == 0
    assoc.release()
    rejected = ae.associate("127.0.0.1", GANTRY, ae_title="SOMEBODY")
    assert rejected.is_rejected
    answer = rejected.acceptor.primitive
    assert (answer.result, answer.result_source, answer.diagnostic) == (1, 1, 7)


try:
    globals()[sys.argv[1]]()
except BaseException:
    # Threads of pynetdicom would keep the process until their timeouts.
    traceback.print_exc()
    sys.stderr.flush()
    os._exit(1)
