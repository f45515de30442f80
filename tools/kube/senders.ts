// Modalities: associations that stay open, instances that can be made again from their number, a retry as a modality has it.
// Run as a program (in a pod: fleet.ts) it takes its orders as lines, and tells each acknowledged number as a line.
import { createHash } from 'node:crypto';
import { createInterface } from 'node:readline';
import { connect } from '#dimse/requestor.ts';
import { store } from '#dimse/scu.ts';
import type { Association } from '#dimse/types.ts';
import { CT, EXPLICIT, makeInstance } from '../chaos/instances.ts';

/** A modality tries a failed instance again for minutes; so often it is a failure of ours. */
const ATTEMPTS = 20;
const RETRY_MS = 1_000;
/** What a modality waits for an answer before it calls again. */
const PATIENCE_MS = 30_000;
const SIZE_MAX = 500_000;
/** Who compare at once. */
const LOOKERS = 8;

/** Attempts that got no 0000, and instances that none of the attempts got through. */
export interface Counts {
  attempts: number;
  failedAttempts: number;
  givenUp: number;
  longestMs: number;
  /** Associations that are open now. */
  open: number;
}
export interface Fleet {
  readonly acknowledged: Set<number>;
  readonly counts: Counts;
  /** How many send, with a pause after each instance; the others hold their associations. */
  sending(count: number, pauseMs?: number): void;
  /** Each releases its association after what it sends, and opens another: new pods get their share. */
  reconnect(): void;
  stop(): Promise<void>;
}

export function launch(target: { host: string; dimsePort: number }, seed: number, size: number): Fleet {
  const acknowledged = new Set<number>();
  const counts = { attempts: 0, failedAttempts: 0, givenUp: 0, longestMs: 0, open: 0 };
  let active = 0;
  let pauseMs = 0;
  let stopping = false;
  let next = 0;
  let wanted = 0;
  const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

  async function modality(number: number): Promise<void> {
    let association: Association | undefined;
    let round = 0;
    const open = async () => {
      if (association) return association;
      association = await connect({
        host: target.host,
        port: target.dimsePort,
        callingAeTitle: `CT${number}`,
        calledAeTitle: 'GANTRY',
        contexts: [{ abstractSyntax: CT, transferSyntaxes: [EXPLICIT] }],
        signal: AbortSignal.timeout(PATIENCE_MS),
      });
      counts.open++;
      return association;
    };
    const closed = () => {
      if (association) counts.open--;
      association = undefined;
    };
    while (!stopping) {
      if (round !== wanted) {
        round = wanted;
        await association?.release().catch(() => undefined); // the peer may have gone first
        closed();
      }
      if (number >= active) {
        if (association === undefined) await open().catch(() => undefined); // it is tried again: nobody waits for it yet
        await pause(200);
        continue;
      }
      const n = next++;
      const made = makeInstance(seed, n, SIZE_MAX);
      const began = performance.now();
      let stored = false;
      for (let attempt = 0; attempt < ATTEMPTS && !stored; attempt++) {
        counts.attempts++;
        // A node without power answers nothing at all.
        const patience = setTimeout(() => association?.abort(), PATIENCE_MS);
        try {
          const { status } = await store(await open(), {
            contextId: 1,
            sopClassUid: CT,
            sopInstanceUid: made.instance,
            data: made.dataSet,
          });
          stored = status === 0;
        } catch {
          // The association ended (a pod went, or drained): a new one, as a modality does.
          association?.abort();
          closed();
        }
        clearTimeout(patience);
        if (!stored) {
          counts.failedAttempts++;
          await pause(RETRY_MS);
        }
      }
      if (stored) acknowledged.add(n);
      else counts.givenUp++;
      counts.longestMs = Math.max(counts.longestMs, performance.now() - began);
      if (pauseMs > 0) await pause(pauseMs);
    }
    await association?.release().catch(() => undefined); // the peer may have gone first
  }
  const work = Array.from({ length: size }, (_, number) => modality(number));
  return {
    acknowledged,
    counts,
    sending(count, rest = 0) {
      active = count;
      pauseMs = rest;
    },
    reconnect() {
      wanted++;
    },
    async stop() {
      stopping = true;
      await Promise.all(work);
    },
  };
}

/** Orders in, one a line: `sending 6 50`, `reconnect`, `stop`. Out: {acknowledged, counts}, five times a second and at the end. */
async function serve([host = '', port = '', seed = '', size = '']: string[]): Promise<void> {
  const fleet = launch({ host, dimsePort: Number(port) }, Number(seed), Number(size));
  let told = 0;
  const tell = () => {
    const acknowledged = [...fleet.acknowledged].slice(told);
    told += acknowledged.length;
    process.stdout.write(`${JSON.stringify({ acknowledged, counts: fleet.counts })}\n`);
  };
  const telling = setInterval(tell, 200);
  for await (const line of createInterface({ input: process.stdin })) {
    const [order, count, rest] = line.split(' ');
    if (order === 'sending') fleet.sending(Number(count), Number(rest ?? 0));
    if (order === 'reconnect') fleet.reconnect();
    if (order === 'stop') break;
  }
  await fleet.stop();
  clearInterval(telling);
  tell();
  process.stdin.destroy(); // or it is waited for, and `kubectl exec` with it
}

/** Each acknowledged instance: found once, byte for byte, and counted once in its study. */
export async function compare(
  origin: string,
  seed: number,
  acknowledged: ReadonlySet<number>,
  uncertain: boolean,
): Promise<Record<'missing' | 'different' | 'doubled' | 'miscounted', string[]>> {
  const result: Record<'missing' | 'different' | 'doubled' | 'miscounted', string[]> = {
    missing: [],
    different: [],
    doubled: [],
    miscounted: [],
  };
  const { missing, different, doubled, miscounted } = result;
  const digest = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
  const waiting = [...acknowledged];
  async function look(): Promise<void> {
    for (let n = waiting.pop(); n !== undefined; n = waiting.pop()) {
      const { study, series, instance, dataSet } = makeInstance(seed, n, SIZE_MAX);
      const found = await fetch(`${origin}/dicom-web/studies/${study}/instances?SOPInstanceUID=${instance}`);
      const rows = found.ok ? ((await found.json()) as unknown[]) : [];
      if (rows.length === 0) missing.push(`${instance} (${found.status})`);
      if (rows.length > 1) doubled.push(instance);
      const answer = await fetch(`${origin}/dicom-web/studies/${study}/series/${series}/instances/${instance}`, {
        headers: { Accept: 'multipart/related; type="application/dicom"; transfer-syntax=*' },
      });
      const bytes = Buffer.from(await answer.arrayBuffer());
      const end = bytes.lastIndexOf('\r\n--');
      if (!answer.ok || digest(bytes.subarray(end - dataSet.length, end)) !== digest(dataSet))
        different.push(`${instance} (${answer.status})`);
    }
  }
  await Promise.all(Array.from({ length: LOOKERS }, look));
  const perStudy = new Map<string, number>();
  for (const n of acknowledged) {
    const { study } = makeInstance(seed, n, 0);
    perStudy.set(study, (perStudy.get(study) ?? 0) + 1);
  }
  const studies = [...perStudy];
  async function count(): Promise<void> {
    for (let one = studies.pop(); one !== undefined; one = studies.pop()) {
      const [study, wanted] = one;
      const answer = await fetch(`${origin}/dicom-web/studies?StudyInstanceUID=${study}&includefield=00201208`);
      const rows = answer.ok ? ((await answer.json()) as { '00201208'?: { Value?: unknown[] } }[]) : [];
      const counted = Number(rows[0]?.['00201208']?.Value?.[0]);
      // What was sent and never acknowledged may be there or not.
      if (rows.length !== 1 || counted < wanted || (counted > wanted && !uncertain))
        miscounted.push(`${study}: ${counted} of ${wanted} in ${rows.length} rows (${answer.status})`);
    }
  }
  await Promise.all(Array.from({ length: LOOKERS }, count));
  return result;
}

if (import.meta.main) await serve(process.argv.slice(2));
