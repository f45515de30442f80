// DICOM files as the scenarios send and compare them.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { DataSet } from '#dicom/dataset.ts';
import { DicomError } from '#dicom/errors.ts';
import { type Part10Prefix, readPart10Prefix } from '#dicom/part10.ts';
import { skim } from '#dicom/skim.ts';
import { Tag } from '#dicom/tags.ts';
import { type OpenDataRow, openData } from '../setup/peers.ts';

export interface TestFile {
  row: OpenDataRow;
  bytes: Buffer;
  /** Without preamble and group 0002: what C-STORE carries. */
  dataSet: Buffer;
  hasMeta: boolean;
  transferSyntaxUid: string;
  sopClassUid: string;
  studyInstanceUid: string;
  seriesInstanceUid: string;
  sopInstanceUid: string;
}

export const sha = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

/** Every file of the open data (or the samples), with what an SCU would know of it. */
export async function testFiles(): Promise<{ files: TestFile[]; from: 'open' | 'samples' }> {
  const { rows, from } = await openData();
  return { files: rows.map(readTestFile), from };
}

export function readTestFile(row: OpenDataRow): TestFile {
  const bytes = readFileSync(row.path);
  const prefix = prefixOf(bytes);
  const dataSet = bytes.subarray(prefix.dataSetOffset);
  let header: DataSet | undefined;
  try {
    header = new DataSet(skim(dataSet, prefix.transferSyntaxUid));
  } catch {
    header = undefined; // not parsable: the archive has to say so, the table below knows it
  }
  return {
    row,
    bytes,
    dataSet,
    hasMeta: prefix.complete,
    transferSyntaxUid: prefix.transferSyntaxUid,
    sopClassUid: header?.string(Tag.SOPClassUID) ?? prefix.meta.mediaStorageSopClassUid ?? row.sopClassUid,
    studyInstanceUid: header?.string(Tag.StudyInstanceUID) ?? '',
    seriesInstanceUid: header?.string(Tag.SeriesInstanceUID) ?? '',
    sopInstanceUid: header?.string(Tag.SOPInstanceUID) ?? prefix.meta.mediaStorageSopInstanceUid ?? row.sopInstanceUid,
  };
}

/** A file that is no DICOM at all is sent as it is: the archive has to say so. */
function prefixOf(bytes: Buffer): Pick<Part10Prefix, 'dataSetOffset' | 'transferSyntaxUid' | 'complete' | 'meta'> {
  try {
    const prefix = readPart10Prefix(bytes, true);
    if (prefix.needMoreBytes === undefined) return prefix;
  } catch (error) {
    if (!(error instanceof DicomError)) throw error;
  }
  return { dataSetOffset: 0, transferSyntaxUid: '1.2.840.10008.1.2', complete: false, meta: {} };
}
