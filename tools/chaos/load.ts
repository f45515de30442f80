// What a hospital does to an archive while something breaks it, and the question afterwards: is everything there that was acknowledged?
import { connect } from '#dimse/requestor.ts';
import { store } from '#dimse/scu.ts';
import type { Association } from '#dimse/types.ts';
import { stowRequest } from '../peers/stow-request.ts';
import { CT, EXPLICIT, type MadeInstance, makeInstance, part10Of } from './instances.ts';

/** A Gantry that runs somewhere: one process, or a cluster. */
export interface Target {
  origin: string;
  dicomWeb: string;
  dimseHost?: string;
  dimsePort: number;
}
export interface Outcome {
  acknowledged: number;
  /** Answers that refused (A700 and the like), and connections that broke: a modality sends again. */
  failed: number;
  deleted: number;
  missing: string[];
  different: string[];
  doubled: string[];
  findings: string[];
  /** The longest time in which nobody got an acknowledgement. */
  silenceMs: number;
}
export interface Load {
  readonly acknowledged: number;
  /** No more is sent; resolves when the last answers are there. */
  stop(): Promise<void>;
  /** After `stop`: every acknowledged instance is asked for, and `gantry verify` is run. */
  compare(): Promise<Outcome>;
}

/** Deterministic for a seed, as far as the schedule of several processes is. */
export function randomOf(seed: number): () => number {
  let state = seed >>> 0 || 1;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

export const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
/** What a modality waits for an answer before it gives up and calls again. */
const PATIENCE_MS = 30_000;

export function startLoad(target: Target, seed: number, { associations = 4 }: { associations?: number } = {}): Load {
  const random = randomOf(seed ^ 0x5eed);
  const acknowledged = new Set<number>();
  const uncertain = new Set<number>(); // sent, no answer or a refusal: may be there or not, never half
  const deleted = new Map<string, boolean>(); // whether it was answered 204
  const retried = new Set<number>(); // sent more than once: an attempt that was given up may still arrive, later than a deletion
  let next = 0;
  let failed = 0;
  let stopping = false;
  let [lastMs, silenceMs] = [performance.now(), 0];

  function note(n: number): void {
    acknowledged.add(n);
    uncertain.delete(n);
    heard();
  }
  function heard(): void {
    silenceMs = Math.max(silenceMs, performance.now() - lastMs);
    lastMs = performance.now();
  }

  async function sender(): Promise<void> {
    // What was not acknowledged is sent again by half of the modalities; the others' users look and shrug.
    let again: number | undefined;
    while (!stopping) {
      let association: Association | undefined;
      try {
        association = await connect({
          host: target.dimseHost ?? '127.0.0.1',
          port: target.dimsePort,
          callingAeTitle: 'CHAOS',
          calledAeTitle: 'GANTRY',
          contexts: [{ abstractSyntax: CT, transferSyntaxes: [EXPLICIT] }],
          signal: AbortSignal.timeout(PATIENCE_MS),
        });
        while (!stopping) {
          const n: number = again ?? next++;
          if (n === again) retried.add(n);
          again = random() < 0.5 ? n : undefined;
          const made = makeInstance(seed, n);
          uncertain.add(n);
          const patience = setTimeout(() => association!.abort(), PATIENCE_MS);
          const { status } = await store(association, {
            contextId: 1,
            sopClassUid: CT,
            sopInstanceUid: made.instance,
            data: made.dataSet,
          }).finally(() => clearTimeout(patience));
          if (status === 0) {
            note(n);
            again = undefined;
          } else {
            failed++;
            await pause(50);
          }
        }
        await association.release();
      } catch {
        // The server was killed: what had no answer stays uncertain, and we call again.
        failed++;
        association?.abort();
        await pause(10);
      }
    }
  }

  async function stowClient(): Promise<void> {
    while (!stopping) {
      const numbers = [next++, next++, next++];
      for (const n of numbers) uncertain.add(n);
      try {
        const answer = await fetch(`${target.dicomWeb}/studies`, {
          ...stowRequest(numbers.map((n) => part10Of(makeInstance(seed, n)))),
          signal: AbortSignal.timeout(PATIENCE_MS),
        });
        const json = (await answer.json()) as Record<string, { Value?: Record<string, { Value?: string[] }>[] }>;
        for (const item of json['00081199']?.Value ?? []) {
          const n = numbers.find((one) => makeInstance(seed, one, 2).instance === item['00081155']!.Value![0]);
          if (n !== undefined) note(n);
        }
        if (answer.status !== 200) {
          failed++;
          await pause(50);
        }
      } catch {
        failed++;
        await pause(10); // killed in the middle: those three stay uncertain
      }
    }
  }

  /** Deletes a study that is complete, now and then; whether it was done is known only by its answer. */
  async function remover(): Promise<void> {
    while (!stopping) {
      await pause(300);
      const tens = Math.floor(random() * Math.floor(next / 10)) * 10;
      const members = Array.from({ length: 10 }, (_, i) => tens + i);
      if (!members.every((n) => acknowledged.has(n) && !retried.has(n))) continue;
      const { study } = makeInstance(seed, tens, 2);
      if (deleted.has(study)) continue;
      deleted.set(study, false); // from now on nobody expects it, nor its absence, unless the answer says so
      const signal = AbortSignal.timeout(PATIENCE_MS);
      const answer = await fetch(`${target.dicomWeb}/studies/${study}`, { method: 'DELETE', signal }).catch(
        () => undefined,
      );
      await answer?.arrayBuffer().catch(() => undefined); // cut off after its status: that was said
      if (answer?.status === 204) deleted.set(study, true);
    }
  }

  const work = [...Array.from({ length: associations }, () => sender()), stowClient(), remover()];

  return {
    get acknowledged() {
      return acknowledged.size;
    },
    async stop() {
      heard();
      stopping = true;
      await Promise.all(work);
    },
    async compare() {
      const [missing, different, doubled]: [string[], string[], string[]] = [[], [], []];
      const compareStudy = async (tens: number): Promise<void> => {
        const { study } = makeInstance(seed, tens, 2);
        const rows = await search(`${target.dicomWeb}/studies/${study}/instances?limit=1000`);
        const found = rows.map((row) => row['00080018']!.Value![0] as string);
        if (new Set(found).size !== found.length) doubled.push(study);
        const [counted] = await search(`${target.dicomWeb}/studies?StudyInstanceUID=${study}&includefield=00201208`);
        if (found.length > 0 && counted?.['00201208']?.Value?.[0] !== found.length) doubled.push(`${study} (count)`);
        // All of it was acknowledged before it was deleted, and sent once: all or nothing, and nothing after a 204.
        if (deleted.has(study) && found.length !== 0 && (found.length !== 10 || deleted.get(study)))
          different.push(`${study} (deleted, ${found.length} left)`);
        const expected = new Map<string, { n: number; made: MadeInstance }>();
        for (let n = tens; n < Math.min(tens + 10, next); n++) {
          const made = makeInstance(seed, n);
          expected.set(made.instance, { n, made });
          if (acknowledged.has(n) && !found.includes(made.instance) && !deleted.has(study)) missing.push(made.instance);
        }
        // All of the study in one answer: every instance that was found must be in it, byte for byte.
        const out = found.length === 0 ? Buffer.alloc(0) : await read(`${target.dicomWeb}/studies/${study}`);
        for (const uid of found) {
          const one = expected.get(uid);
          const sent = one !== undefined && (acknowledged.has(one.n) || uncertain.has(one.n));
          if (!sent || !out.includes(one.made.dataSet)) different.push(uid);
        }
      };
      let study = 0;
      const worker = async () => {
        while (study < next) {
          const tens = study;
          study += 10;
          await compareStudy(tens);
        }
      };
      await Promise.all(Array.from({ length: 8 }, worker));
      const findings = await verify(target).catch((error: unknown) => [`verify broke off: ${error}`]);
      return {
        acknowledged: acknowledged.size,
        failed,
        deleted: [...deleted.values()].filter(Boolean).length,
        missing,
        different,
        doubled,
        findings,
        silenceMs,
      };
    },
  };
}

async function search(url: string): Promise<Record<string, { Value?: unknown[] }>[]> {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`a search was answered ${answer.status}: ${await answer.text()}`);
  return answer.status === 204 ? [] : ((await answer.json()) as Record<string, { Value?: unknown[] }>[]);
}

/** The files, or nothing when they were refused or cut off: then they differ. */
async function read(url: string): Promise<Buffer> {
  try {
    const headers = { Accept: 'multipart/related; type="application/dicom"; transfer-syntax=*' };
    const answer = await fetch(url, { headers });
    return answer.ok ? Buffer.from(await answer.arrayBuffer()) : Buffer.alloc(0);
  } catch {
    return Buffer.alloc(0); // cut off: no bytes are not the bytes that were sent
  }
}

/** What `gantry verify` says of the log against the index, both ways, digests included; nothing: all is well. */
export async function verify(target: Pick<Target, 'origin'>): Promise<string[]> {
  const answer = await fetch(`${target.origin}/api/v1/verify`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: '{}',
  });
  const lines = (await answer.text())
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { kind: string; detail: string });
  if (lines.at(-1)?.kind !== 'ok-summary')
    return lines.filter((line) => line.kind !== 'progress').map((line) => `${line.kind}: ${line.detail}`);
  return [];
}
