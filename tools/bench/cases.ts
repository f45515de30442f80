// What is measured, and against what. Every case starts its servers on empty directories and measures them in turn, `runs` times.
import { Agent, request } from 'node:http';
import { connect } from '#dimse/requestor.ts';
import { store } from '#dimse/scu.ts';
import { hostile } from './hostile.ts';
import { CT, EXPLICIT, maker, namesOf, type Shape } from './made.ts';
import { type Fetched, type Fetching, fetchAgain, median, percentile, send, sending, using } from './measure.ts';
import { gantry, nginx, orthanc, type Subject, storescp } from './servers.ts';

export interface Options {
  quick: boolean;
  runs: number;
  /** Instances of the case `scale`. */
  scale: number;
  /** Senders at once of the cases that store; 4 is what RESULTS.md holds. */
  associations: number;
}
export interface Aim {
  aim: string;
  measured: string;
  met: boolean;
}
export interface Outcome {
  rows: Record<string, string | number>[];
  aims: Aim[];
  notes?: string[];
}
export interface Case {
  name: string;
  title: string;
  run(options: Options): Promise<Outcome>;
}

const round = (value: number): number => Number(value.toPrecision(3));
const times = (value: number): string => `${value.toPrecision(3)} ×`;
const url = (subject: Subject, path: string): string =>
  `http://127.0.0.1:${subject.httpPort}${subject.dicomWeb}${path}`;

async function withServers<T>(
  starts: (() => Promise<Subject>)[],
  work: (...subjects: Subject[]) => Promise<T>,
): Promise<T> {
  const subjects: Subject[] = [];
  try {
    for (const start of starts) subjects.push(await start());
    return await work(...subjects);
  } finally {
    for (const subject of subjects) await subject.close();
  }
}

/** Waits until the last instance is found: what is not indexed yet would be CPU that nobody counted. */
async function found(subject: Subject, study: string, instance: string): Promise<void> {
  for (const until = Date.now() + 120_000; Date.now() < until; ) {
    const answer = await fetch(url(subject, `/studies/${study}/instances?SOPInstanceUID=${instance}`));
    if (answer.status === 200 && (await answer.text()).includes(instance)) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`${subject.name} did not find what it acknowledged`);
}

interface Ingest {
  name: string;
  title: string;
  by: 'c-store' | 'stow';
  count: number;
  frames: number;
  instancesPerStudy: number;
  batch?: number;
  peers: (() => Promise<Subject>)[];
  rateAim: number;
}

function ingestCase(ingest: Ingest): Case {
  const { name, title, by, frames, instancesPerStudy, batch, rateAim } = ingest;
  return {
    name,
    title,
    async run({ quick, runs, associations }) {
      const orders = (subject: Subject, shape: Shape, count: number) => ({
        by,
        port: by === 'stow' ? subject.httpPort : subject.dimsePort,
        path: `${subject.dicomWeb}/studies`,
        shape,
        from: 0,
        count,
        batch,
        associations,
      });
      const count = quick ? Math.ceil(ingest.count / 10) : ingest.count;
      return withServers([gantry, ...ingest.peers], async (...subjects) => {
        // Warm, as a server of a hospital is: the first hundreds are paid by the compiler.
        for (const subject of subjects)
          await send(orders(subject, { run: 999, instancesPerStudy, frames }, Math.ceil(count / 10)));
        const seen = new Map<Subject, { rate: number; mb: number; cpu: number; peak: number; written: number }[]>();
        const flushes = new Map<Subject, number[]>();
        for (let run = 0; run < runs; run++) {
          for (const subject of subjects) {
            const shape: Shape = { run, instancesPerStudy, frames };
            const before = await subject.flushes();
            const used = using(subject.pid);
            const account = await send(orders(subject, shape, count));
            const last = namesOf(shape, count - 1);
            if (subject.httpPort > 0) await found(subject, last.study, last.instance);
            const { cpuSeconds, peakMegabytes, writtenMegabytes } = used();
            const gigabytes = account.bytes / 1e9;
            seen.set(subject, [
              ...(seen.get(subject) ?? []),
              {
                rate: account.instances / account.seconds,
                mb: account.bytes / 1e6 / account.seconds,
                cpu: cpuSeconds / gigabytes,
                peak: peakMegabytes,
                written: (writtenMegabytes * 2 ** 20) / account.bytes,
              },
            ]);
            const after = await subject.flushes();
            if (before !== undefined && after !== undefined)
              flushes.set(subject, [...(flushes.get(subject) ?? []), (after - before) / count]);
          }
        }
        const of = (subject: Subject, key: 'rate' | 'mb' | 'cpu' | 'peak' | 'written') =>
          median(seen.get(subject)!.map((one) => one[key]));
        const rows = subjects.map((subject) => ({
          server: subject.name,
          'instances/s': round(of(subject, 'rate')),
          'MB/s': round(of(subject, 'mb')),
          'CPU s per GB': round(of(subject, 'cpu')),
          'CPU ms per instance': round((1000 * of(subject, 'cpu') * of(subject, 'mb')) / 1000 / of(subject, 'rate')),
          'peak RSS MB': Math.round(of(subject, 'peak')),
          'bytes written per byte': round(of(subject, 'written')),
          'flushes per instance': flushes.has(subject) ? round(median(flushes.get(subject)!)) : 'unknown',
        }));
        const [ours, theirs] = [subjects[0]!, subjects.find((subject) => subject.name === 'Orthanc')!];
        const rate = of(ours, 'rate') / of(theirs, 'rate');
        const cpu = of(ours, 'cpu') / of(theirs, 'cpu');
        return {
          rows,
          aims: [
            { aim: `${title}: ≥ ${rateAim} × Orthanc's rate`, measured: times(rate), met: rate >= rateAim },
            { aim: `${title}: ≤ 1/3 of Orthanc's CPU`, measured: times(cpu), met: cpu <= 1 / 3 },
          ],
        };
      });
    },
  };
}

const small = { count: 2000, frames: 1, instancesPerStudy: 100 };
const large = { count: 10, frames: 200, instancesPerStudy: 10 };

/** Subjects in turn, `runs` times; medians of what wrk says, and the server's CPU. */
async function fetchInTurn(
  asked: { subject: Subject; path: string; fetching: Fetching }[],
  runs: number,
): Promise<{ subject: Subject; fetched: Fetched; cpuMs: number }[]> {
  const all = asked.map(() => [] as (Fetched & { cpuMs: number })[]);
  for (const { subject, path, fetching } of asked) await fetchAgain(url(subject, path), { ...fetching, seconds: 1 });
  for (let run = 0; run < runs; run++) {
    for (const [n, { subject, path, fetching }] of asked.entries()) {
      const used = using(subject.pid);
      const fetched = await fetchAgain(url(subject, path), fetching);
      const requests = fetched.requestsPerSecond * fetching.seconds;
      all[n]!.push({ ...fetched, cpuMs: (used().cpuSeconds * 1000) / Math.max(1, requests) });
    }
  }
  return asked.map(({ subject }, n) => {
    const of = (key: keyof Fetched | 'cpuMs') => median(all[n]!.map((one) => one[key]));
    return {
      subject,
      cpuMs: of('cpuMs'),
      fetched: {
        requestsPerSecond: of('requestsPerSecond'),
        p50Ms: of('p50Ms'),
        p99Ms: of('p99Ms'),
        megabytesPerSecond: of('megabytesPerSecond'),
        bytesEach: of('bytesEach'),
      },
    };
  });
}

const fetchRows = (all: Awaited<ReturnType<typeof fetchInTurn>>): Outcome['rows'] =>
  all.map(({ subject, fetched, cpuMs }) => ({
    server: subject.name,
    'requests/s': round(fetched.requestsPerSecond),
    'p50 ms': round(fetched.p50Ms),
    'p99 ms': round(fetched.p99Ms),
    'MB/s': round(fetched.megabytesPerSecond),
    'KB an answer': round(fetched.bytesEach / 1000),
    'CPU ms a request': round(cpuMs),
  }));

async function fill(subject: Subject, shape: Shape, count: number): Promise<void> {
  await send({ by: 'c-store', port: subject.dimsePort, shape, from: 0, count, associations: 4 });
  const last = namesOf(shape, count - 1);
  await found(subject, last.study, last.instance);
}

const ANY_DICOM = 'multipart/related; type="application/dicom"; transfer-syntax=*';

const retrieve: Case = {
  name: 'wado',
  title: 'WADO-RS of a study of 500 instances, its metadata, and its frames one by one',
  async run({ quick, runs }) {
    const count = quick ? 50 : 500;
    const [study, frame] = [count * (512 * 1024 + 1800), 512 * 1024];
    return withServers([gantry, orthanc, () => nginx({ study, frame })], async (ours, theirs, plain) => {
      const shape: Shape = { run: 1, instancesPerStudy: count, frames: 1 };
      for (const subject of [ours!, theirs!]) await fill(subject, shape, count);
      const { study: uid, series } = namesOf(shape, 0);
      const seconds = quick ? 2 : 5;
      const whole = await fetchInTurn(
        [
          { subject: ours!, path: `/studies/${uid}`, fetching: { seconds, accept: ANY_DICOM } },
          { subject: theirs!, path: `/studies/${uid}`, fetching: { seconds, accept: ANY_DICOM } },
          { subject: plain!, path: '/study', fetching: { seconds } },
        ],
        runs,
      );
      const json = { seconds, accept: 'application/dicom+json' };
      const metadata = await fetchInTurn(
        [
          { subject: ours!, path: `/studies/${uid}/metadata`, fetching: json },
          { subject: theirs!, path: `/studies/${uid}/metadata`, fetching: json },
        ],
        runs,
      );
      const paths = Array.from(
        { length: count },
        (_, n) => `/dicom-web/studies/${uid}/series/${series}/instances/${namesOf(shape, n).instance}/frames/1`,
      );
      const frames = {
        seconds,
        connections: 4,
        accept: 'multipart/related; type="application/octet-stream"; transfer-syntax=*',
        paths,
      };
      const single = await fetchInTurn(
        [
          { subject: ours!, path: '', fetching: frames },
          { subject: theirs!, path: '', fetching: frames },
          { subject: plain!, path: '/frame', fetching: { seconds, connections: 4 } },
        ],
        runs,
      );
      const label = (what: string, all: typeof whole) => fetchRows(all).map((row) => ({ what, ...row }));
      const share = whole[0]!.fetched.megabytesPerSecond / whole[2]!.fetched.megabytesPerSecond;
      return {
        rows: [...label('study', whole), ...label(`metadata of ${count}`, metadata), ...label('single frames', single)],
        aims: [
          { aim: 'WADO-RS of a study: ≥ 0.8 of nginx (bytes/s)', measured: share.toPrecision(3), met: share >= 0.8 },
        ],
      };
    });
  },
};

const metadata: Case = {
  name: 'metadata',
  title: 'Metadata of a series of 1,000 instances, one reader',
  async run({ quick, runs }) {
    const count = quick ? 200 : 1000;
    return withServers([gantry, orthanc], async (...subjects) => {
      const shape: Shape = { run: 1, instancesPerStudy: count, frames: 0 };
      for (const subject of subjects) await fill(subject, shape, count);
      const { study, series } = namesOf(shape, 0);
      const fetching = { seconds: quick ? 2 : 5, accept: 'application/dicom+json' };
      const all = await fetchInTurn(
        subjects.map((subject) => ({ subject, path: `/studies/${study}/series/${series}/metadata`, fetching })),
        runs,
      );
      const { p50Ms } = all[0]!.fetched;
      return {
        rows: fetchRows(all),
        aims: [{ aim: 'Metadata of 1,000 instances: ≤ 30 ms warm', measured: `${round(p50Ms)} ms`, met: p50Ms <= 30 }],
      };
    });
  },
};

const list: Case = {
  name: 'qido',
  title: 'QIDO-RS study list of 100, over 200 studies of 5 instances, 4 readers',
  async run({ quick, runs }) {
    const count = quick ? 200 : 1000;
    return withServers([gantry, orthanc], async (...subjects) => {
      for (const subject of subjects) await fill(subject, { run: 1, instancesPerStudy: 5, frames: 0 }, count);
      const fetching = { seconds: quick ? 3 : 5, connections: 4, accept: 'application/dicom+json' };
      const all = await fetchInTurn(
        subjects.map((subject) => ({ subject, path: '/studies?limit=100', fetching })),
        runs,
      );
      const ratio = all[0]!.fetched.requestsPerSecond / all[1]!.fetched.requestsPerSecond;
      return {
        rows: fetchRows(all),
        aims: [{ aim: 'QIDO study list: ≥ 100 × Orthanc', measured: times(ratio), met: ratio >= 100 }],
      };
    });
  },
};

const scale: Case = {
  name: 'scale',
  title: 'Growth: synthetic headers, one instance a study, 4 associations; then the study list under load',
  async run({ quick, scale: wanted }) {
    const total = quick ? 3000 : wanted;
    const step = quick ? 1000 : 10_000;
    return withServers([gantry], async (...[subject]) => {
      const ours = subject!;
      const shape: Shape = { run: 1, instancesPerStudy: 1, frames: 0 };
      const rows: Outcome['rows'] = [];
      const part = async (from: number, count: number) => {
        const used = using(ours.pid);
        const account = await send({ by: 'c-store', port: ours.dimsePort, shape, from, count, associations: 4 });
        const last = namesOf(shape, from + count - 1);
        await found(ours, last.study, last.instance);
        const { cpuSeconds, peakMegabytes, writtenMegabytes } = used();
        rows.push({
          'instances from': from,
          to: from + count,
          'instances/s': round(account.instances / account.seconds),
          'CPU ms per instance': round((cpuSeconds * 1000) / count),
          'peak RSS MB': Math.round(peakMegabytes),
          'KB written per instance': round((writtenMegabytes * 1024) / count),
        });
        return { rate: account.instances / account.seconds, cpu: cpuSeconds / count };
      };
      await part(0, step); // warm: the first thousands are paid by the compiler
      const early = await part(step, step);
      if (total > 4 * step) await part(2 * step, total - 3 * step);
      const late = await part(total - step, step);
      const fetching = { seconds: quick ? 3 : 15, accept: 'application/dicom+json' };
      const page = url(ours, '/studies?limit=100');
      const calm = await fetchAgain(page, fetching);
      const load = sending({
        by: 'c-store',
        port: ours.dimsePort,
        shape: { run: 2, instancesPerStudy: 100, frames: 1 },
        from: 0,
        count: 0,
        associations: 4,
      });
      const busy = await fetchAgain(page, fetching);
      const account = await load.stop();
      const share = late.rate / early.rate;
      return {
        rows,
        aims: [
          {
            aim: `Rate at ${total} instances ≥ 0.95 of that at ${step}`,
            measured: `${share.toPrecision(3)} (CPU an instance: ${times(late.cpu / early.cpu)})`,
            met: share >= 0.95,
          },
          {
            aim: `Study list p99 at ${total} studies under four senders ≤ 50 ms`,
            measured: `${round(busy.p99Ms)} ms (p50 ${round(busy.p50Ms)})`,
            met: busy.p99Ms <= 50,
          },
        ],
        notes: [
          `Study list of 100 at ${total} studies: calm p50 ${round(calm.p50Ms)} ms, p99 ${round(calm.p99Ms)} ms; with four associations`,
          `sending 0.5 MB instances (${Math.round(account.instances / account.seconds)}/s meanwhile): p50 ${round(busy.p50Ms)} ms, p99 ${round(busy.p99Ms)} ms.`,
        ],
      };
    });
  },
};

/** From the C-STORE-RSP to the answer of a search in which the instance stands, asked over and over on one connection. */
async function delays(subject: Subject, run: number, count: number): Promise<number[]> {
  const shape: Shape = { run, instancesPerStudy: 10, frames: 1 };
  const make = maker(shape);
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const association = await connect({
    host: '127.0.0.1',
    port: subject.dimsePort,
    callingAeTitle: 'BENCH',
    calledAeTitle: 'GANTRY',
    contexts: [{ abstractSyntax: CT, transferSyntaxes: [EXPLICIT] }],
  });
  const all: number[] = [];
  for (let n = 0; n < count; n++) {
    const made = make(n);
    const { status } = await store(association, {
      contextId: 1,
      sopClassUid: CT,
      sopInstanceUid: made.instance,
      data: made.pieces,
    });
    if (status !== 0) throw new Error(`C-STORE status ${status.toString(16)}`);
    const began = performance.now();
    const address = url(subject, `/studies/${made.study}/instances?SOPInstanceUID=${made.instance}`);
    while (!(await text(address, agent)).includes(made.instance)) if (performance.now() - began > 30_000) break;
    all.push(performance.now() - began);
  }
  await association.release();
  agent.destroy();
  return all;
}

function text(address: string, agent: Agent): Promise<string> {
  return new Promise((resolve, reject) => {
    const get = request(address, { agent, headers: { Accept: 'application/dicom+json' } }, (response) => {
      response.toArray().then((chunks) => resolve(chunks.join('')), reject);
    });
    get.once('error', reject);
    get.end();
  });
}

const delay: Case = {
  name: 'found',
  title: 'From stored to found, one instance after the other, calm and under four senders',
  async run({ quick }) {
    const count = quick ? 20 : 60;
    return withServers([gantry, orthanc], async (...subjects) => {
      const rows: Outcome['rows'] = [];
      let worst = 0;
      for (const subject of subjects) {
        await delays(subject, 1, 10);
        const calm = await delays(subject, 2, count);
        const load = sending({
          by: 'c-store',
          port: subject.dimsePort,
          shape: { run: 3, instancesPerStudy: 100, frames: 1 },
          from: 0,
          count: 0,
          associations: 4,
        });
        const busy = await delays(subject, 4, count);
        await load.stop();
        if (subject.name === 'Gantry') worst = percentile(busy, 0.95);
        for (const [when, all] of [['calm', calm] as const, ['under load', busy] as const])
          rows.push({
            server: subject.name,
            when,
            'p50 ms': round(median(all)),
            'p95 ms': round(percentile(all, 0.95)),
            'max ms': round(Math.max(...all)),
          });
      }
      return {
        rows,
        aims: [{ aim: 'Found within 100 ms (p95 under load)', measured: `${round(worst)} ms`, met: worst <= 100 }],
      };
    });
  },
};

export const CASES: readonly Case[] = [
  ingestCase({
    ...small,
    name: 'store-small',
    title: 'C-STORE, 4 associations, 2,000 × 0.5 MB',
    by: 'c-store',
    peers: [orthanc, storescp],
    rateAim: 3,
  }),
  ingestCase({
    ...large,
    name: 'store-large',
    title: 'C-STORE, 4 associations, 10 × 105 MB',
    by: 'c-store',
    peers: [orthanc, storescp],
    rateAim: 5,
  }),
  ingestCase({
    ...small,
    name: 'stow-small',
    title: 'STOW-RS, 4 connections, 2,000 × 0.5 MB, 20 a request',
    by: 'stow',
    batch: 20,
    peers: [orthanc],
    rateAim: 3,
  }),
  ingestCase({
    ...large,
    name: 'stow-large',
    title: 'STOW-RS, 4 connections, 10 × 105 MB',
    by: 'stow',
    batch: 1,
    peers: [orthanc],
    rateAim: 5,
  }),
  list,
  retrieve,
  metadata,
  scale,
  delay,
  hostile,
];
