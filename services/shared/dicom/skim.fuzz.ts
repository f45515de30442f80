import assert from 'node:assert/strict';
import { DataSet } from './dataset.ts';
import { DicomError } from './errors.ts';
import { framePlaces } from './frames.ts';
import { decodeHead, encodeHead, type Head } from './head.ts';
import { Inflater } from './inflate.ts';
import { toJsonText } from './json.ts';
import { fromJson } from './json-read.ts';
import { readPart10Prefix } from './part10.ts';
import { reencode } from './reencode.ts';
import { Skimmer, skim } from './skim.ts';
import { encodeDataSet } from './write.ts';

/**
 * Fuzz targets (tools/fuzz): each takes any bytes, lets DicomErrors pass, and throws where something that must hold does not. The
 * first byte chooses the transfer syntax where one is needed.
 */
const SYNTAXES = [
  '1.2.840.10008.1.2.1',
  '1.2.840.10008.1.2',
  '1.2.840.10008.1.2.2',
  '1.2.840.10008.1.2.1.99',
  '1.2.840.10008.1.2.4.50',
] as const;
const syntaxOf = (input: Buffer): string => SYNTAXES[(input[0] ?? 0) % SYNTAXES.length]!;

/** Enough for any input of the fuzzer: it looks for crashes, not for patience. */
const LIMITS = { inflatedBytesMax: 2 ** 22 };

async function expecting(work: () => void | Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof DicomError)) throw error;
    assert.ok(error.message.length < 200);
  }
}

/** The skeleton, the cut values and the trailing bytes, put together again. */
export function rebuilt(head: Head, dataSet: Buffer): Buffer {
  const parts: Buffer[] = [];
  let at = 0;
  for (const cut of head.cuts) {
    parts.push(head.skeleton.subarray(at, cut.at), dataSet.subarray(cut.offset, cut.offset + cut.length));
    at = cut.at;
  }
  parts.push(head.skeleton.subarray(at));
  if (head.trailing) parts.push(dataSet.subarray(head.trailing.offset, head.trailing.offset + head.trailing.length));
  return Buffer.concat(parts);
}

export const fuzzTargets: Record<string, (input: Buffer) => Promise<void>> = {
  /** What is accepted can be put together again, read, written as JSON, and does not depend on chunks. */
  skim: (input) =>
    expecting(() => {
      const bytes = input.subarray(1);
      const uid = syntaxOf(input);
      let head: Head | undefined;
      let refused: unknown;
      try {
        head = skim(bytes, uid, { limits: LIMITS });
      } catch (error) {
        refused = error;
      }
      const skimmer = new Skimmer({ transferSyntaxUid: uid, limits: LIMITS });
      try {
        for (let at = 0, size = 1 + (input[0]! % 7); at < bytes.length; at += size, size = 1 + ((size * 5) % 23))
          skimmer.write(bytes.subarray(at, at + size));
        const chunked = skimmer.end();
        if (refused) throw new Error('accepted in chunks, refused whole', { cause: refused });
        assert.deepEqual(chunked, head);
      } catch (error) {
        if (!refused || !(error instanceof DicomError))
          throw error instanceof DicomError ? new Error('refused in chunks, accepted whole', { cause: error }) : error;
        assert.equal(error.reason, (refused as DicomError).reason);
      }
      if (!head) throw refused;
      if (!head.deflated) assert.ok(rebuilt(head, bytes).equals(bytes), 'rebuilt differs');
      assert.deepEqual(decodeHead(encodeHead(head)), head);
      const dataSet = readable(head);
      assert.equal(countCuts(dataSet), head.cuts.length, 'a cut without its element');
      JSON.parse(toJsonText(dataSet, { bulkDataUri: () => 'x' }));
      const frames = framePlaces(head, dataSet);
      for (const index of [0, frames.count - 1]) {
        for (const range of frames.place(index).ranges)
          assert.ok(range.offset >= 0 && range.offset + range.length <= head.length);
      }
    }),

  /** What is accepted can be re-encoded, and means the same afterwards. */
  reencode: (input) =>
    expecting(async () => {
      const uid = syntaxOf(input);
      const head = skim(input.subarray(1), uid, { limits: LIMITS });
      if (uid === SYNTAXES[4]) return;
      for await (const part of reencode(input.subarray(1), uid, SYNTAXES[1])) assert.ok(part.length > 0);
      // Compared in explicit VR: in implicit VR the dictionary speaks, whatever the sender called the element.
      const parts: Buffer[] = [];
      for await (const part of reencode(input.subarray(1), uid, SYNTAXES[0])) parts.push(part);
      if (parts.length === 0) return;
      const first = readable(head).elements[0];
      if (first && first.tag >>> 16 === 0x0800) return; // in the clear again it looks like (0008) of the other byte order
      assert.deepEqual(tagsOf(readable(skim(Buffer.concat(parts), SYNTAXES[0]))), tagsOf(readable(head)));
    }),

  inflate: (input) =>
    expecting(() => {
      const inflater = new Inflater(LIMITS.inflatedBytesMax);
      inflater.write(input, () => {});
      inflater.end();
    }),

  head: (input) =>
    expecting(() => {
      const head = decodeHead(input);
      const dataSet = new DataSet(head);
      JSON.parse(toJsonText(dataSet));
      framePlaces(head, dataSet).place(0);
    }),

  part10: (input) =>
    expecting(() => {
      const prefix = readPart10Prefix(input, true);
      assert.ok(prefix.needMoreBytes === undefined && prefix.dataSetOffset <= input.length);
    }),

  /** What is read as a model can be written, and is read as a data set. */
  json: (input) =>
    expecting(() => {
      let model: unknown;
      try {
        model = JSON.parse(input.toString());
      } catch {
        return; // JSON.parse's business
      }
      const bytes = encodeDataSet(fromJson(model), { transferSyntaxUid: SYNTAXES[0] });
      const dataSet = new DataSet({ buffer: bytes, transferSyntaxUid: SYNTAXES[0] });
      JSON.parse(toJsonText(dataSet));
    }),
};

/** An accepted head must be readable: a refusal here is a finding. */
function readable(head: Head): DataSet {
  try {
    const dataSet = new DataSet(head);
    countCuts(dataSet); // reads every item
    return dataSet;
  } catch (error) {
    throw new Error('what was accepted cannot be read', { cause: error });
  }
}

function countCuts(dataSet: DataSet): number {
  let count = 0;
  for (const element of dataSet) {
    if (element.cut) count++;
    for (const item of element.items ?? []) count += countCuts(item);
  }
  return count;
}

const tagsOf = (dataSet: DataSet): number[] =>
  dataSet.elements.map((element) => element.tag).filter((tag) => (tag & 0xffff) !== 0);
