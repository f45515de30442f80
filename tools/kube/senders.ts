// Modalities: associations that stay open, instances that can be made again from their number, a retry as a modality has it.
import { createHash } from 'node:crypto';
import { connect } from '#dimse/requestor.ts';
import { store } from '#dimse/scu.ts';
import type { Association } from '#dimse/types.ts';
import { CT, EXPLICIT, makeInstance } from '../chaos/instances.ts';

/** A modality tries a failed instance again for minutes; so often it is a failure of ours. */
const ATTEMPTS = 20;
const RETRY_MS = 1_000;
const SIZE_MAX = 500_000;
/** Who compare at once. */
const LOOKERS = 8;

export interface Fleet {
  readonly acknowledged: Set<number>;
  /** Attempts that got no 0000, and instances that none of the attempts got through. */
  readonly counts: { attempts: number; failedAttempts: number; givenUp: number; longestMs: number };
  /** How many send; the others hold their associations. */
  sending(count: number): void;
  /** Each releases its association after what it sends, and opens another: new pods get their share. */
  reconnect(): void;
  stop(): Promise<void>;
}

export function launch(target: { host: string; dimsePort: number }, seed: number, size: number): Fleet {
  const acknowledged = new Set<number>();
  const counts = { attempts: 0, failedAttempts: 0, givenUp: 0, longestMs: 0 };
  let active = 0;
  let stopping = false;
  let next = 0;
  let wanted = 0;
  const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

  async function modality(number: number): Promise<void> {
    let association: Association | undefined;
    let round = 0;
    const open = async () =>
      (association ??= await connect({
        host: target.host,
        port: target.dimsePort,
        callingAeTitle: `CT${number}`,
        calledAeTitle: 'GANTRY',
        contexts: [{ abstractSyntax: CT, transferSyntaxes: [EXPLICIT] }],
      }));
    while (!stopping) {
      if (round !== wanted) {
        round = wanted;
        await association?.release().catch(() => undefined); // the peer may have gone first
        association = undefined;
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
          association = undefined;
        }
        if (!stored) {
          counts.failedAttempts++;
          await pause(RETRY_MS);
        }
      }
      if (stored) acknowledged.add(n);
      else counts.givenUp++;
      counts.longestMs = Math.max(counts.longestMs, performance.now() - began);
    }
    await association?.release().catch(() => undefined); // the peer may have gone first
  }
  const work = Array.from({ length: size }, (_, number) => modality(number));
  return {
    acknowledged,
    counts,
    sending(count) {
      active = count;
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

/** Each acknowledged instance: found once, and byte for byte. */
export async function compare(
  origin: string,
  seed: number,
  acknowledged: Set<number>,
): Promise<{ missing: string[]; different: string[]; doubled: string[] }> {
  const [missing, different, doubled]: [string[], string[], string[]] = [[], [], []];
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
  return { missing, different, doubled };
}
