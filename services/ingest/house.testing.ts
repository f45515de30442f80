import assert from 'node:assert/strict';
import { BULK } from '#platform/routes.ts';
import type { Bytes } from '#platform/rpc.types.ts';
import { createTestContext, type TestContext } from '#platform/testing.ts';
import { IngestService, type StoreRequest } from '#proto/ingest/v1/ingest.ts';
import { bytesOf, FakeStorage } from './fake-storage.testing.ts';
import { module } from './module.ts';
import { CT, dataSet, EXPLICIT, part10 } from './sample.testing.ts';

/** For tests: ingest in front of a fake storage, and what its doors would send. */
export const SOURCE = {
  door: 'DIMSE',
  callingAeTitle: 'MODALITY',
  calledAeTitle: 'GANTRY',
  address: '',
  defaultCharset: '',
};
export const REQUEST: StoreRequest = {
  sopClassUid: CT,
  sopInstanceUid: '1.2.3.4',
  transferSyntaxUid: EXPLICIT,
  source: SOURCE,
};
export const SMALL = 64 * 1024;
export const LARGE = { pixelBytes: 300_000 };

export let context: TestContext;
export let storage: FakeStorage;

export async function house(options: { overGrpc?: boolean; settings?: Record<string, unknown> } = {}) {
  storage = new FakeStorage();
  context = await createTestContext({
    modules: [storage.module, module],
    overGrpc: options.overGrpc ?? false,
    settings: {
      'storage.smallLimit': SMALL,
      'ingest.permitBytes': SMALL * 4,
      'ingest.streamBytes': 16 * 1024,
      ...options.settings,
    },
  });
}

export const status = () => context.client(IngestService).status(context.call(), {});

export async function closeHouse() {
  const { permitsInUse } = await status();
  await context.stop();
  assert.equal(permitsInUse, 0, 'every permit is back');
}

export async function store(
  body: Bytes | readonly Buffer[],
  request: Partial<StoreRequest> = {},
  signal?: AbortSignal,
) {
  const call = context.call(signal ? { signal } : {});
  return (await context.bulk(BULK.store)(call, { ...REQUEST, ...request }, body)).response;
}

export async function storePart10(body: Bytes | readonly Buffer[], studyInstanceUid = '') {
  return (await context.bulk(BULK.storePart10)(context.call(), { source: SOURCE, studyInstanceUid }, body)).response;
}

/** Over HTTP the caller hears of its own cancellation before the handler does. */
export async function untilPermitsAreBack() {
  while ((await status()).permitsInUse > 0) await new Promise((resolve) => setImmediate(resolve));
}

export function watched(body: Bytes) {
  const seen = { chunks: 0, ended: false, closed: false };
  async function* pass() {
    try {
      for await (const chunk of body) {
        seen.chunks++;
        yield chunk;
      }
      seen.ended = true;
    } finally {
      seen.closed = true;
    }
  }
  return { seen, body: pass() };
}

export const ROOT = 'http://gantry.test/dicom-web';
export const DICOM = 'multipart/related; type="application/dicom"; boundary=XX';

export async function stow(body: Bytes | readonly Buffer[], contentType = DICOM, studyInstanceUid = '') {
  const answer = await context.bulk(BULK.stow)(
    context.call(),
    { contentType, studyInstanceUid, source: SOURCE, retrieveRoot: ROOT },
    body,
  );
  const text = (await bytesOf(answer.body)).toString();
  return { ...answer.response, json: text === '' ? undefined : JSON.parse(text) };
}

export const multipart = (parts: { type?: string; location?: string; body: Buffer }[], end = '\r\n--XX--\r\n') =>
  Buffer.concat([
    ...parts.flatMap(({ type = 'application/dicom', location, body }) => [
      Buffer.from(`\r\n--XX\r\nContent-Type: ${type}\r\n${location ? `Content-Location: ${location}\r\n` : ''}\r\n`),
      body,
    ]),
    Buffer.from(end),
  ]);
export const instance = (n: number, of: Parameters<typeof dataSet>[0] = {}) =>
  part10(dataSet({ sopInstanceUid: `1.2.3.${n}`, ...of }), { sopInstanceUid: `1.2.3.${n}` });
export const failed = (sopInstanceUid: string, reason: number) => ({
  '00081150': { vr: 'UI', Value: [CT] },
  '00081155': { vr: 'UI', Value: [sopInstanceUid] },
  '00081197': { vr: 'US', Value: [reason] },
});
export const stored = (sopInstanceUid: string) => ({
  '00081150': { vr: 'UI', Value: [CT] },
  '00081155': { vr: 'UI', Value: [sopInstanceUid] },
  '00081190': { vr: 'UR', Value: [`${ROOT}/studies/1.2.3/series/1.2.3.1/instances/${sopInstanceUid}`] },
});
export const STUDY_URL = { vr: 'UR', Value: [`${ROOT}/studies/1.2.3`] };
