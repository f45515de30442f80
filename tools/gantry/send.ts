// Files over associations: one context for each class in each transfer syntax, at most 128 an association.
import { createReadStream } from 'node:fs';
import { setTimeout as wait } from 'node:timers/promises';
import { AssociationError } from '#dimse/errors.ts';
import { CONTEXTS_MAX, connect } from '#dimse/requestor.ts';
import { store } from '#dimse/scu.ts';
import type { Association } from '#dimse/types.ts';
import { DICOMDIR_CLASS, HEAD_BYTES, type Identity, identify } from './identify.ts';
import type { Outcomes } from './outcomes.ts';
import type { Item } from './sources.ts';
import { interrupted } from './upload.ts';

/** So many files are looked at before they are sent: what they are decides which contexts an association offers. */
const BATCH = 2000;
const TRIES = 4;
const PAUSE_MS = 500;

export interface Destination {
  host: string;
  port: number;
  calledAeTitle: string;
  callingAeTitle: string;
}
export interface Outgoing extends Identity {
  item: Item;
}

/** What is no DICOM is counted and left out; a DICOMDIR too. */
export async function* batches(
  source: AsyncIterable<Item>,
  outcomes: Outcomes,
  signal: AbortSignal,
): AsyncGenerator<Outgoing[]> {
  let batch: Outgoing[] = [];
  for await (const item of source) {
    if (signal.aborted) throw interrupted();
    const identity = await identityOf(item);
    if (identity === 'no-dicom') outcomes.noDicom++;
    else if (identity === 'no-uids')
      outcomes.refuse({
        label: item.label,
        code: 'invalid-argument',
        says: 'has no SOP Class or SOP Instance UID: C-STORE cannot name it',
      });
    else if (typeof identity === 'string') outcomes.fail({ label: item.label, code: 'unreadable', says: identity });
    else if (identity.sopClassUid === DICOMDIR_CLASS) outcomes.dicomdir++;
    else batch.push({ ...identity, item });
    if (batch.length === BATCH) {
      yield batch;
      batch = [];
    }
  }
  if (batch.length > 0) yield batch;
}

async function identityOf(item: Item): Promise<Identity | string> {
  if (item.leftOut !== undefined) return item.leftOut;
  const path = item.path!;
  try {
    const chunks: Buffer[] = [];
    for await (const chunk of createReadStream(path, { end: HEAD_BYTES - 1 })) chunks.push(chunk as Buffer);
    const head = Buffer.concat(chunks);
    return await identify(head, () => createReadStream(path, { highWaterMark: 1024 * 1024 }), head.length < HEAD_BYTES);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (typeof code !== 'string') throw error;
    return `cannot be read (${code})`;
  }
}

const keyOf = (one: Identity): string => `${one.sopClassUid} ${one.transferSyntaxUid}`;

export async function sendBatch(
  destination: Destination,
  batch: Outgoing[],
  associations: number,
  outcomes: Outcomes,
  signal: AbortSignal,
  show: () => void,
): Promise<void> {
  const kinds = [...Map.groupBy(batch, keyOf).values()];
  for (let at = 0; at < kinds.length; at += CONTEXTS_MAX) {
    const part = kinds.slice(at, at + CONTEXTS_MAX);
    const contexts = part.map(([one]) => ({
      abstractSyntax: one!.sopClassUid,
      transferSyntaxes: [one!.transferSyntaxUid],
    }));
    const queue = part.flat().map((file) => ({ file, tries: 0 }));
    const workers = Math.min(associations, queue.length);
    const work: Work = { destination, contexts, queue, outcomes, signal, show, open: 0 };
    const results = await Promise.allSettled(Array.from({ length: workers }, () => worker(work)));
    const failure = results.find((result) => result.status === 'rejected');
    if (failure !== undefined) throw failure.reason;
  }
}

interface Work {
  destination: Destination;
  contexts: { abstractSyntax: string; transferSyntaxes: string[] }[];
  queue: { file: Outgoing; tries: number }[];
  outcomes: Outcomes;
  signal: AbortSignal;
  show: () => void;
  /** Associations of all workers. */
  open: number;
}

/** One association at a time, until the queue is empty: a peer that breaks off gets the file once more over a new one. */
async function worker(work: Work): Promise<void> {
  const { destination, contexts, queue, outcomes, signal, show } = work;
  let association: Association | undefined;
  const leave = () => {
    if (association !== undefined) work.open--;
    const left = association;
    association = undefined;
    return left;
  };
  try {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      if (signal.aborted) throw interrupted();
      const { file } = next;
      const again = { file, tries: next.tries + 1 };
      try {
        if (association === undefined) {
          association = await connect({ ...destination, contexts, signal });
          work.open++;
        }
        const status = await sendOne(association, file);
        if (status === undefined) {
          outcomes.refuse({
            label: file.item.label,
            code: 'presentation-context',
            says: 'the receiver does not take this class in this transfer syntax',
          });
        } else if (status.code === 0 || isWarning(status.code)) {
          outcomes.stored++;
          outcomes.bytes += file.item.size;
        } else if (isOutOfResources(status.code) && again.tries < TRIES) {
          await wait(PAUSE_MS * 2 ** next.tries, undefined, { signal });
          queue.push(again);
        } else {
          outcomes.refuse({
            label: file.item.label,
            code: hex(status.code),
            says: status.comment || 'refused without a word',
          });
        }
      } catch (error) {
        if (signal.aborted) throw interrupted();
        leave()?.abort();
        const code = (error as NodeJS.ErrnoException).code;
        if (error instanceof AssociationError) {
          if (error.code === 'connect-failed' || error.code === 'rejected') {
            queue.unshift(next);
            if (work.open > 0) return; // it takes no further association: those that are open send this file too
            if (again.tries >= 2) throw error; // nobody takes any
            next.tries++;
            await wait(PAUSE_MS, undefined, { signal });
            continue;
          }
          if (again.tries < TRIES) {
            queue.push(again);
            await wait(PAUSE_MS, undefined, { signal });
          } else outcomes.fail({ label: file.item.label, code: error.code, says: error.message });
        } else if (typeof code === 'string')
          outcomes.fail({ label: file.item.label, code: 'unreadable', says: `cannot be read (${code})` });
        else throw error;
      }
      show();
    }
    await leave()?.release();
  } finally {
    leave()?.abort();
  }
}

const isWarning = (status: number): boolean =>
  (status & 0xf000) === 0xb000 || status === 0x0001 || status === 0x0107 || status === 0x0116;
const isOutOfResources = (status: number): boolean => (status & 0xff00) === 0xa700;
const hex = (status: number): string => status.toString(16).padStart(4, '0').toUpperCase();

async function sendOne(
  association: Association,
  file: Outgoing,
): Promise<{ code: number; comment: string } | undefined> {
  const context = association.findContext(file.sopClassUid, file.transferSyntaxUid);
  if (context === undefined) return undefined;
  const { status, command } = await store(association, {
    contextId: context.id,
    sopClassUid: file.sopClassUid,
    sopInstanceUid: file.sopInstanceUid,
    data: createReadStream(file.item.path!, {
      start: file.dataSetOffset,
      highWaterMark: 256 * 1024,
    }) as AsyncIterable<Buffer>,
  });
  return { code: status, comment: (command.errorComment ?? '').slice(0, 64) };
}
