import { createHash, randomBytes } from 'node:crypto';
import type { Instance } from '#proto/storage/v1/log.ts';
import type { NewEntry } from '../ports.ts';

/** For tests: entries as ingest would bring them. */
export const sha256 = (bytes: Buffer): Buffer => createHash('sha256').update(bytes).digest();

export function sampleInstance(file: Buffer, over: Partial<Instance> = {}): Instance {
  return {
    studyInstanceUid: '1.2.826.0.1',
    seriesInstanceUid: '1.2.826.0.1.1',
    sopInstanceUid: `1.2.826.0.1.1.${randomBytes(4).readUInt32BE()}`,
    sopClassUid: '1.2.840.10008.5.1.4.1.1.7',
    transferSyntaxUid: '1.2.840.10008.1.2.1',
    version: sha256(Buffer.concat([Buffer.from('version'), file])),
    digest: sha256(file),
    place: { object: '', offset: 0, length: file.length, encoding: 0 },
    dataSetOffset: 0,
    head: Buffer.from('head'),
    source: undefined,
    ...over,
  };
}

export const sampleEntry = (file: Buffer, over: Partial<Instance> = {}): NewEntry => ({
  kind: { $case: 'instance', value: sampleInstance(file, over) },
  body: [file.subarray(0, file.length >> 1), file.subarray(file.length >> 1)],
});

export const sampleHold = (reason = 'held'): NewEntry => ({
  kind: { $case: 'hold', value: { studyInstanceUid: '1.2.826.0.1', on: true, reason, actor: 'test' } },
});

export async function bytesOf(chunks: AsyncIterable<Buffer>): Promise<Buffer> {
  const all: Buffer[] = [];
  for await (const chunk of chunks) all.push(chunk);
  return Buffer.concat(all);
}
