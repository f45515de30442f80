// What every scenario is given: a deployment, the clients that ask it, and somebody whom it can call.
import assert from 'node:assert/strict';
import type { JsonDataSet } from '#dicom/json.ts';
import { sha } from '../files.ts';
import type { Deployment } from './deployment.ts';
import { type Dimse, dimseOf, type Receiver, receive, type Taken } from './dimse.ts';
import { dataSetOf, type Making, make, makeSeries, realFiles, type Sent } from './material.ts';
import { type Web, webOf } from './web.ts';

export interface Scene {
  readonly deployment: Deployment;
  readonly dimse: Dimse;
  readonly web: Web;
  readonly receiver: Receiver;
  /** Made here, they are taken back at the end. */
  make(making?: Making): Sent;
  makeSeries(count: number, making?: Making): Sent[];
  realFiles(): Promise<Sent[]>;
  /** Every study that was made so far. */
  readonly studies: ReadonlySet<string>;
  close(): Promise<void>;
}

export async function openScene(deployment: Deployment): Promise<Scene> {
  const studies = new Set<string>();
  const noted = <T extends Sent | Sent[]>(made: T): T => {
    for (const { study } of [made].flat()) studies.add(study);
    return made;
  };
  const receiver = await receive(deployment);
  return {
    deployment,
    dimse: dimseOf(deployment),
    web: webOf(deployment),
    receiver,
    studies,
    make: (making) => noted(make(making)),
    makeSeries: (count, making) => noted(makeSeries(count, making)),
    realFiles: async () => noted(await realFiles()),
    close: () => receiver.close(),
  };
}

/** How long anything may take to become visible at the other door. Nobody promises more; far less is usual. */
export const VISIBLE_MS = 30_000;
const LOOK_AGAIN_MS = 50;

/** Looks until it is so. What fails says what never came, and what was seen last. */
export async function eventually<T>(
  what: string,
  look: () => Promise<T | undefined | false> | T | undefined | false,
  limitMs = VISIBLE_MS,
): Promise<T> {
  let last: unknown;
  for (const end = Date.now() + limitMs; ; ) {
    try {
      const seen = await look();
      if (seen !== undefined && seen !== false) return seen;
      last = seen;
    } catch (error) {
      if (!(error instanceof assert.AssertionError)) throw error;
      last = error.message;
    }
    if (Date.now() > end) assert.fail(`${what}: not within ${limitMs} ms (${String(last)})`);
    await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS));
  }
}

/** How long a sender's own query waits for what the sender stored (WAIT_MS of services/gateway/read-your-writes.ts). */
const OWN_WAIT_MS = 5_000;

/** A sender's own query on its own connection: an answer that came before the wait was over holds what the sender stored. */
export async function own(what: string, look: () => Promise<boolean>): Promise<void> {
  await eventually(what, async () => {
    const asked = Date.now();
    if (await look()) return true;
    if (Date.now() - asked < OWN_WAIT_MS) throw new Error(`${what}: answered without what its sender had stored`);
    return false;
  });
}

export const first = (row: JsonDataSet | undefined, tag: string): unknown => row?.[tag]?.Value?.[0];
export const values = (rows: readonly JsonDataSet[], tag: string): string[] =>
  rows.map((row) => String(first(row, tag))).sort();
export const sopsOf = (sent: readonly Pick<Sent, 'sop'>[]): string[] => sent.map(({ sop }) => sop).sort();

/** Data sets, byte for byte: each that was sent, once, and nothing else. */
export function assertSame(got: readonly Buffer[], sent: readonly Sent[]): void {
  assert.deepEqual(got.map(sha).sort(), sent.map(({ dataSet }) => sha(dataSet)).sort());
}
export const assertTaken = (taken: readonly Taken[], sent: readonly Sent[]): void => {
  assert.deepEqual(sopsOf(taken), sopsOf(sent));
  assertSame(
    taken.map(({ dataSet }) => dataSet),
    sent,
  );
};
/** Of WADO-RS: Part 10 files whose meta may be the archive's own (after C-STORE). */
export const assertFiles = (files: readonly Buffer[], sent: readonly Sent[]): void =>
  assertSame(files.map(dataSetOf), sent);

/** What was stored at another door, or by another sender, shows here when it was folded. */
export const eventuallyCounted = (web: Web, study: string, count: number): Promise<unknown> =>
  eventually(`${count} instances of a study`, async () => {
    const [row] = await web.qido('/studies', { StudyInstanceUID: study, includefield: '00201208' });
    assert.equal(first(row, '00201208'), count);
    return true;
  });
