// The sender: a process of its own, the same for every server. Its orders come as JSON in argv, its account goes to stdout.
import { once } from 'node:events';
import { Agent, request } from 'node:http';
import { connect } from '#dimse/requestor.ts';
import { store } from '#dimse/scu.ts';
import { CT, EXPLICIT, maker, part10, type Shape } from './made.ts';

export interface Orders {
  by: 'c-store' | 'stow';
  port: number;
  /** STOW: path of the studies resource. */
  path?: string;
  calledAeTitle?: string;
  shape: Shape;
  from: number;
  count: number;
  associations: number;
  /** STOW: instances in one request. */
  batch?: number;
  /** Goes on until it is told to stop (stdin ends), for load behind another measurement. */
  untilStopped?: boolean;
}
export interface Account {
  instances: number;
  bytes: number;
  seconds: number;
  failures: number;
  /** C-STORE: from the first byte of the request to its answer. */
  p50Ms: number;
  p99Ms: number;
  /** Answers that took a second and more. */
  lateAnswers: number;
}

/** As long as clients make them: how fast a server finds it depends on that. */
const BOUNDARY = '0f3cf5c0-70e0-41ef-baef-c6f9f65ec3e1';

const orders = JSON.parse(process.argv[2]!) as Orders;
const make = maker(orders.shape);
let next = orders.from;
const end = orders.untilStopped ? Number.POSITIVE_INFINITY : orders.from + orders.count;
let stopped = false;
const account: Account = { instances: 0, bytes: 0, seconds: 0, failures: 0, p50Ms: 0, p99Ms: 0, lateAnswers: 0 };
const answeredMs: number[] = [];
if (orders.untilStopped) process.stdin.on('end', () => (stopped = true)).resume();

async function cStore(n: number): Promise<void> {
  const association = await connect({
    host: '127.0.0.1',
    port: orders.port,
    callingAeTitle: `BENCH${n}`,
    calledAeTitle: orders.calledAeTitle ?? 'GANTRY',
    contexts: [{ abstractSyntax: CT, transferSyntaxes: [EXPLICIT] }],
    limits: { responseTimeoutMs: 300_000 },
  });
  while (next < end && !stopped) {
    const made = make(next++);
    const asked = performance.now();
    const answer = await store(association, {
      contextId: 1,
      sopClassUid: CT,
      sopInstanceUid: made.instance,
      data: made.pieces,
    });
    answeredMs.push(performance.now() - asked);
    if (answer.status === 0) {
      account.instances++;
      account.bytes += made.bytes;
    } else account.failures++;
  }
  await association.release();
}

async function stow(): Promise<void> {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  while (next < end && !stopped) {
    const first = next;
    const last = Math.min(end, first + (orders.batch ?? 1));
    next = last;
    const pieces: Buffer[] = [];
    for (let n = first; n < last; n++) {
      pieces.push(Buffer.from(`--${BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n`));
      pieces.push(...part10(make(n)), Buffer.from('\r\n'));
    }
    pieces.push(Buffer.from(`--${BOUNDARY}--\r\n`));
    const bytes = pieces.reduce((sum, piece) => sum + piece.length, 0);
    const post = request({
      host: '127.0.0.1',
      port: orders.port,
      path: orders.path,
      method: 'POST',
      agent,
      headers: {
        'Content-Type': `multipart/related; type="application/dicom"; boundary=${BOUNDARY}`,
        'Content-Length': bytes,
        Accept: 'application/dicom+json',
      },
    });
    const answered = once(post, 'response');
    for (const piece of pieces) if (!post.write(piece)) await once(post, 'drain');
    post.end();
    const [response] = (await answered) as [import('node:http').IncomingMessage];
    const answer = JSON.parse((await response.toArray()).join('')) as Record<string, { Value?: unknown[] }>;
    const stored = answer['00081199']?.Value?.length ?? 0;
    const refused = answer['00081198']?.Value?.length ?? 0; // Orthanc sends the sequence empty
    if (response.statusCode === 200 && refused === 0 && stored === last - first) {
      account.instances += last - first;
      account.bytes += bytes;
    } else account.failures += last - first;
  }
  agent.destroy();
}

const began = performance.now();
await Promise.all(Array.from({ length: orders.associations }, (_, n) => (orders.by === 'stow' ? stow() : cStore(n))));
account.seconds = (performance.now() - began) / 1000;
if (answeredMs.length > 0) {
  answeredMs.sort((a, b) => a - b);
  account.lateAnswers = answeredMs.filter((ms) => ms >= 1000).length;
  account.p50Ms = answeredMs[Math.ceil(answeredMs.length * 0.5) - 1]!;
  account.p99Ms = answeredMs[Math.ceil(answeredMs.length * 0.99) - 1]!;
}
process.stdout.write(`${JSON.stringify(account)}\n`);
process.exit(0);
