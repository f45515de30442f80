import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Part10Digest } from '#dicom/digest.ts';
import { encodeHead } from '#dicom/head.ts';
import { writePart10Prefix } from '#dicom/part10.ts';
import { skim } from '#dicom/skim.ts';
import { encodeDataSet } from '#dicom/write.ts';
import { BULK } from '#platform/routes.ts';
import { createTestContext, type TestContext, type TestOptions } from '#platform/testing.ts';
import { IndexService, type Located, LocateRequest } from '#proto/index/v1/index.ts';
import type { Entry, EntryId, Instance, Position } from '#proto/storage/v1/log.ts';
import { DataService, KeeperService, type VerifyFinding } from '#proto/storage/v1/storage.ts';
import { loadRole } from '../../roles.ts';
import { bytesOf } from '../log/sample.testing.ts';

/** Where the archive of a house lies: told otherwise by adapters/s3/keeper.test.ts, which runs the same tests on a bucket. */
export const ground: { settings(dataDir: string): Promise<Record<string, unknown>>; tears: boolean } = {
  settings: async () => ({}),
  /** A kill can leave half a commit. */
  tears: true,
};

/** For tests: storage, index and keeper as they run, without doors; nothing happens by itself. */
export async function house(options: TestOptions = {}): Promise<TestContext> {
  const [storage, index] = await Promise.all([loadRole('storage'), loadRole('index')]);
  const [data, keeper] = storage.modules;
  const dataDir = options.dataDir ?? (await mkdtemp(join(tmpdir(), 'gantry-house-')));
  const context = await createTestContext({
    modules: [data!, ...index.modules, keeper!],
    ...options,
    dataDir,
    settings: {
      ...(await ground.settings(dataDir)),
      'keeper.enabled': false,
      'storage.segmentBytes': 1, // each commit seals the segment before it
      'index.settleMs': 3_600_000,
      'index.readers': 1,
      ...options.settings,
    },
  });
  if (options.dataDir !== undefined) return context;
  const stop = async (): Promise<void> => {
    await context.stop();
    await rm(dataDir, { recursive: true, force: true });
  };
  return { ...context, stop };
}

const EXPLICIT_LE = '1.2.840.10008.1.2.1';
const SC = '1.2.840.10008.5.1.4.1.1.7';

export interface Made {
  study: string;
  sop: string;
  /** Other text, other bytes. */
  text?: string;
  bytes?: number;
}

/** A small instance as a file and as its log entry. `text` can be found in the file as it is. */
export function make({ study, sop, text = 'picture', bytes = 600 }: Made): { instance: Instance; file: Buffer } {
  const uids = { sopClassUid: SC, sopInstanceUid: sop, transferSyntaxUid: EXPLICIT_LE };
  const pixels = Buffer.alloc(bytes + (bytes % 2), `${text} `);
  const dataSet = encodeDataSet(
    {
      '00080016': { vr: 'UI', Value: [SC] },
      '00080018': { vr: 'UI', Value: [sop] },
      '00080060': { vr: 'CS', Value: ['OT'] },
      '0020000D': { vr: 'UI', Value: [study] },
      '0020000E': { vr: 'UI', Value: [`${study}.1`] },
      '7FE00010': { vr: 'OB', InlineBinary: pixels.toString('base64') },
    } as never,
    { transferSyntaxUid: EXPLICIT_LE },
  );
  const prefix = writePart10Prefix(uids);
  const file = Buffer.concat([prefix, dataSet]);
  const { version, digest } = new Part10Digest(EXPLICIT_LE, prefix.length).update(file).finish();
  return {
    file,
    instance: {
      ...uids,
      studyInstanceUid: study,
      seriesInstanceUid: `${study}.1`,
      version,
      digest,
      place: { object: '', offset: 0, length: file.length, encoding: 0 },
      dataSetOffset: prefix.length,
      head: encodeHead(skim(dataSet, EXPLICIT_LE)),
      source: undefined,
    },
  };
}

export async function folded(context: TestContext, positions: Position[]): Promise<void> {
  const { reached } = await context.client(IndexService).await(context.call(), { positions, limitMs: 10_000 });
  assert.ok(reached);
}

export async function store(context: TestContext, made: Made): Promise<EntryId> {
  const { instance, file } = make(made);
  const { response } = await context.bulk(BULK.appendInstance)(context.call(), { instance }, [file]);
  await folded(context, [response.position!]);
  return response.id!;
}

export async function storeLarge(context: TestContext, made: Made): Promise<{ id: EntryId; object: string }> {
  const { instance, file } = make(made);
  const put = await context.bulk(BULK.putLarge)(context.call(), { expectedBytes: file.length }, [file]);
  const { object } = put.response;
  const place = { object, offset: 0, length: file.length, encoding: 0 };
  const { response } = await context.bulk(BULK.appendLarge)(context.call(), { instance: { ...instance, place } });
  await folded(context, [response.position!]);
  return { id: response.id!, object };
}

export async function control(context: TestContext, kind: NonNullable<Entry['kind']>): Promise<void> {
  const entries = [{ n: 0, stamp: '', kind }];
  await folded(context, (await context.client(DataService).append(context.call(), { entries })).positions);
}
const deletion =
  (purge: boolean) =>
  (context: TestContext, study: string, ...entries: EntryId[]) =>
    control(context, {
      $case: 'delete',
      value: { entries, studyInstanceUid: study, reason: '', actor: 'test', purge },
    });
export const trash = deletion(false);
export const purge = deletion(true);
export const restore = (context: TestContext, study: string, ...entries: EntryId[]) =>
  control(context, { $case: 'restore', value: { entries, studyInstanceUid: study, actor: 'test' } });
export const hold = (context: TestContext, study: string, on: boolean) =>
  control(context, { $case: 'hold', value: { studyInstanceUid: study, on, reason: 'court', actor: 'test' } });

export async function all<T>(rows: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const row of rows) found.push(row);
  return found;
}

export const locate = (context: TestContext, study: string, sop = ''): Promise<Located[]> =>
  all(
    context.client(IndexService).locate(
      context.call(),
      LocateRequest.fromPartial({
        studyInstanceUids: [study],
        sopInstanceUids: sop === '' ? [] : [sop],
        renditions: true,
      }),
    ),
  );

export async function read(context: TestContext, { place }: Located): Promise<Buffer> {
  return bytesOf((await context.bulk(BULK.read)(context.call(), { places: [place!] })).body);
}

export const compact = (context: TestContext, study: string) =>
  context
    .client(KeeperService)
    .compact(context.call({ deadline: Number.POSITIVE_INFINITY }), { studyInstanceUid: study });
export const reclaim = (context: TestContext, now = true) =>
  context.client(KeeperService).reclaim(context.call({ deadline: Number.POSITIVE_INFINITY }), { now });
export const keeperStatus = (context: TestContext) => context.client(KeeperService).status(context.call(), {});

/** Without the lines that say only how far it is. */
export async function verified(context: TestContext, study = '', digests = true): Promise<VerifyFinding[]> {
  const request = { studyInstanceUid: study, digests };
  return (await all(context.client(KeeperService).verify(context.call(), request))).filter(
    ({ kind }) => kind !== 'progress',
  );
}
export const kindsOf = (findings: VerifyFinding[]): string[] => findings.map(({ kind }) => kind);
