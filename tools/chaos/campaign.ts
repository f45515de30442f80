// The kill campaign: kill -9 at random moments under four sending associations and a STOW client; what was acknowledged must be there.
import { createHash } from 'node:crypto';
import { writePart10Prefix } from '#dicom/part10.ts';
import { connect } from '#dimse/requestor.ts';
import { store } from '#dimse/scu.ts';
import type { Association } from '#dimse/types.ts';
import { type GantryServer, startServer } from '../peers/server.ts';
import { CT, EXPLICIT, type MadeInstance, makeInstance } from './instances.ts';

export interface CampaignOptions {
  kills: number;
  seed: number;
  associations?: number;
  /** How long it runs between two kills: from 0 to this. */
  aliveMsMax?: number;
  log?: (line: string) => void;
}
export interface CampaignResult {
  kills: number;
  acknowledged: number;
  deleted: number;
  missing: string[];
  different: string[];
  doubled: string[];
  findings: string[];
  slowestStartMs: number;
}

/** Deterministic for a seed, as far as the schedule of two processes is. */
function randomOf(seed: number): () => number {
  let state = seed >>> 0 || 1;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

export async function campaign(options: CampaignOptions): Promise<CampaignResult> {
  const { kills, seed, associations = 4, aliveMsMax = 1500, log = () => {} } = options;
  const random = randomOf(seed);
  const server = await startServer({
    env: {
      GANTRY_INDEX_SETTLE_MS: '1000',
      GANTRY_KEEPER_INTERVAL_MS: '1000',
      GANTRY_KEEPER_DELETION_DELAY_MS: '0',
      GANTRY_STORAGE_SEGMENT_BYTES: '16MiB',
    },
  });
  const acknowledged = new Set<number>();
  const uncertain = new Set<number>(); // sent, no answer: may be there or not, never half
  const deletedStudies = new Set<string>();
  let next = 0;
  let stopping = false;
  let slowestStartMs = 0;

  async function sender(sizeMax?: number): Promise<void> {
    while (!stopping) {
      let association: Association | undefined;
      try {
        association = await connect({
          host: '127.0.0.1',
          port: server.dimsePort,
          callingAeTitle: 'CHAOS',
          calledAeTitle: 'GANTRY',
          contexts: [{ abstractSyntax: CT, transferSyntaxes: [EXPLICIT] }],
        });
        while (!stopping) {
          const n = next++;
          const made = makeInstance(seed, n, sizeMax);
          uncertain.add(n);
          const { status } = await store(association, {
            contextId: 1,
            sopClassUid: CT,
            sopInstanceUid: made.instance,
            data: made.dataSet,
          });
          if (status === 0) {
            acknowledged.add(n);
            uncertain.delete(n);
          }
        }
        await association.release();
      } catch {
        // The server was killed: what had no answer stays uncertain, and we call again.
        association?.abort();
        await pause(10);
      }
    }
  }

  async function stowClient(): Promise<void> {
    while (!stopping) {
      const numbers = [next++, next++, next++];
      for (const n of numbers) uncertain.add(n);
      const parts = numbers.flatMap((n) => {
        const made = makeInstance(seed, n);
        return [
          Buffer.from('--chaos\r\nContent-Type: application/dicom\r\n\r\n'),
          writePart10Prefix({ sopClassUid: CT, sopInstanceUid: made.instance, transferSyntaxUid: EXPLICIT }),
          made.dataSet,
          Buffer.from('\r\n'),
        ];
      });
      try {
        const answer = await fetch(`${server.dicomWeb}/studies`, {
          method: 'POST',
          headers: {
            'Content-Type': 'multipart/related; type="application/dicom"; boundary=chaos',
            Accept: 'application/dicom+json',
          },
          body: new Uint8Array(Buffer.concat([...parts, Buffer.from('--chaos--\r\n')])),
        });
        const json = (await answer.json()) as Record<string, { Value?: Record<string, { Value?: string[] }>[] }>;
        for (const item of json['00081199']?.Value ?? []) {
          const n = numbers.find((one) => makeInstance(seed, one, 2).instance === item['00081155']!.Value![0]);
          if (n !== undefined) {
            acknowledged.add(n);
            uncertain.delete(n);
          }
        }
      } catch {
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
      if (!members.every((n) => acknowledged.has(n))) continue;
      const { study } = makeInstance(seed, tens, 2);
      if (deletedStudies.has(study)) continue;
      deletedStudies.add(study); // from now on nobody expects it, nor its absence, unless the answer says so
      await fetch(`${server.dicomWeb}/studies/${study}`, { method: 'DELETE' }).catch(() => undefined);
    }
  }

  const work = [...Array.from({ length: associations }, () => sender()), stowClient(), remover()];
  for (let kill = 1; kill <= kills; kill++) {
    await pause(random() * aliveMsMax);
    await server.signal('SIGKILL');
    const began = performance.now();
    await server.restart();
    slowestStartMs = Math.max(slowestStartMs, performance.now() - began);
    if (kill % 10 === 0) log(`${kill} kills, ${acknowledged.size} acknowledged`);
  }
  stopping = true;
  await Promise.all(work);
  const result = await compare(server, seed, acknowledged, uncertain, deletedStudies, next);
  const findings = await verify(server).catch((error: unknown) => [`verify broke off: ${error}`]);
  const warnings = server
    .log()
    .split('\n')
    .filter((line) => /"level":"(error|fatal|warn)"/.test(line));
  for (const line of warnings.slice(-20)) log(line);
  await server.close();
  return { kills, acknowledged: acknowledged.size, deleted: deletedStudies.size, ...result, findings, slowestStartMs };
}

async function compare(
  server: GantryServer,
  seed: number,
  acknowledged: Set<number>,
  uncertain: Set<number>,
  deleted: Set<string>,
  count: number,
): Promise<Pick<CampaignResult, 'missing' | 'different' | 'doubled'>> {
  const [missing, different, doubled]: [string[], string[], string[]] = [[], [], []];
  for (let tens = 0; tens < count; tens += 10) {
    const { study } = makeInstance(seed, tens, 2);
    const answer = await fetch(`${server.dicomWeb}/studies/${study}/instances?limit=1000`);
    if (!answer.ok)
      throw new Error(
        `a search was answered ${answer.status}: ${await answer.text()}\n${server.log().split('\n').slice(-30).join('\n')}`,
      );
    const rows = (await answer.json()) as Record<string, { Value?: string[] }>[];
    const found = rows.map((row) => row['00080018']!.Value![0]!);
    if (new Set(found).size !== found.length) doubled.push(study);
    const expected = new Map<string, { n: number; made: MadeInstance }>();
    for (let n = tens; n < Math.min(tens + 10, count); n++) {
      const made = makeInstance(seed, n);
      expected.set(made.instance, { n, made });
      if (acknowledged.has(n) && !found.includes(made.instance) && !deleted.has(study)) missing.push(made.instance);
    }
    for (const uid of found) {
      const one = expected.get(uid);
      if (one === undefined || (!acknowledged.has(one.n) && !uncertain.has(one.n))) {
        different.push(uid);
        continue;
      }
      const out = await read(`${server.dicomWeb}/studies/${study}/series/${one.made.series}/instances/${uid}`);
      const dataSet = out.subarray(out.length - one.made.dataSet.length);
      if (digest(dataSet) !== digest(one.made.dataSet)) different.push(uid);
    }
  }
  return { missing, different, doubled };
}

/** The file, or nothing when it was refused or cut off: then it differs. */
async function read(url: string): Promise<Buffer> {
  try {
    const answer = await fetch(url, { headers: { Accept: 'application/dicom; transfer-syntax=*' } });
    return answer.ok ? Buffer.from(await answer.arrayBuffer()) : Buffer.alloc(0);
  } catch {
    return Buffer.alloc(0); // cut off: no bytes are not the bytes that were sent
  }
}

async function verify(server: GantryServer): Promise<string[]> {
  const answer = await fetch(`${server.origin}/api/v1/verify`, {
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

const digest = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
