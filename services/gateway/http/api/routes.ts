import type { FastifyReply, FastifyRequest } from 'fastify';
import { trimUid } from '#dicom/uids.ts';
import type { Call } from '#platform/call.ts';
import { GantryError } from '#platform/errors.ts';
import type { Context } from '#platform/module.ts';
import { BULK } from '#platform/routes.ts';
import { DimseService } from '#proto/gateway/v1/gateway.ts';
import { IndexService } from '#proto/index/v1/index.ts';
import { IngestService, type StatusResponse } from '#proto/ingest/v1/ingest.ts';
import { DataService, KeeperService } from '#proto/storage/v1/storage.ts';
import type { ReadYourWrites } from '../../read-your-writes.ts';
import type { UseCases } from '../../use-cases.ts';
import { stream } from '../dicomweb/respond.ts';
import { httpWriter } from '../dicomweb/store.ts';
import { bodyOf } from '../refused-body.ts';

/** One row an operation: what the server runs, and what /api/v1/openapi.json says, come from the same table. */
export interface ApiRoute {
  method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  path: string; // under /api/v1
  summary: string;
  useCase: string;
  event: string;
  action: 'C' | 'R' | 'U' | 'D' | 'E';
  /** JSON schema of the body's properties; absent: no body is read. */
  body?: Record<string, { type: 'string' | 'boolean'; description: string }>;
  /** application/x-ndjson: one JSON object a line as the work goes on. */
  answer: 'application/json' | 'application/x-ndjson' | 'text/markdown';
  rawBody?: string; // media type of a body that is streamed on
  run(request: FastifyRequest, reply: FastifyReply): Promise<unknown>;
}

const REASON_MAX = 256;

/** What each process answers; those that cannot be reached are left out, unless none can. */
async function ofEach<Client, Answer>(
  clients: readonly Client[],
  ask: (client: Client) => Promise<Answer>,
): Promise<{ answers: Answer[]; asked: number }> {
  const settled = await Promise.allSettled(clients.map(ask));
  const answers = settled.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
  if (answers.length === 0) throw (settled[0] as PromiseRejectedResult).reason;
  return { answers, asked: clients.length };
}

/** Permits and counts of every process that takes instances in, added up. */
async function intakeOf(context: Context, call: Call) {
  const { answers } = await ofEach(context.everywhere(IngestService), (one) => one.status(call, {}));
  const sum = (of: (one: StatusResponse) => number) => answers.reduce((all, one) => all + of(one), 0);
  return {
    permitsTotal: sum((one) => one.permitsTotal),
    permitsInUse: sum((one) => one.permitsInUse),
    accepted: sum((one) => one.accepted),
    refused: sum((one) => one.refused),
    bytes: sum((one) => one.bytes),
    processes: answers.length,
  };
}

/** 64-bit and byte fields as JSON: digests and versions are hex. */
export const plain = (value: unknown): unknown =>
  JSON.parse(
    JSON.stringify(value, (_key, one) => {
      if (one instanceof Uint8Array) return Buffer.from(one).toString('hex');
      if (one !== null && typeof one === 'object' && one.type === 'Buffer' && Array.isArray(one.data))
        return Buffer.from(one.data).toString('hex');
      return one;
    }),
  );

export function apiRoutes(context: Context, useCases: UseCases, written: ReadYourWrites): ApiRoute[] {
  const index = context.client(IndexService);
  const data = context.client(DataService);
  const keeper = context.client(KeeperService);
  const dimse = context.client(DimseService);
  const storePart10 = context.bulk(BULK.storePart10);

  const param = (request: FastifyRequest, name: string): string =>
    (request.params as Record<string, string>)[name] ?? '';
  /** As long as it takes: ended by whoever asked, not by platform.rpcTimeoutMs. */
  const long = (request: FastifyRequest) => ({ ...request.call, deadline: Number.POSITIVE_INFINITY });
  const field = <T>(request: FastifyRequest, name: string): T | undefined =>
    (request.body as Record<string, T> | null | undefined)?.[name];
  const collect = async <T>(rows: AsyncIterable<T>): Promise<T[]> => {
    const all: T[] = [];
    for await (const row of rows) all.push(row);
    return all;
  };
  const lines = (reply: FastifyReply, rows: AsyncIterable<unknown>) =>
    stream(
      reply.type('application/x-ndjson'),
      (async function* () {
        for await (const row of rows) yield Buffer.from(`${JSON.stringify(plain(row))}\n`);
      })(),
    );
  const study = (request: FastifyRequest): string => {
    const uid = trimUid(param(request, 'study'));
    request.auditObjects.push({ type: 'study', id: uid });
    return uid;
  };

  return [
    {
      method: 'GET',
      path: '/status',
      summary: 'What is in the archive, how much space is left, how far the index is, and what is wrong',
      useCase: 'api.status',
      event: 'Application Activity',
      action: 'R',
      answer: 'application/json',
      run: async ({ call }) => {
        const [counts, space, kept, intake] = await Promise.all([
          index.counts(call, {}),
          data.space(call, {}),
          keeper.status(call, {}),
          intakeOf(context, call),
        ]);
        return {
          ready: context.ready(),
          index: counts,
          space,
          storage: kept,
          ingest: intake,
          uptimeSeconds: Math.round(process.uptime()),
        };
      },
    },
    {
      method: 'GET',
      path: '/peers',
      summary: 'The configured DICOM peers, and our own AE title and address',
      useCase: 'api.peers',
      event: 'Application Activity',
      action: 'R',
      answer: 'application/json',
      run: ({ call }) => dimse.listPeers(call, {}),
    },
    {
      method: 'POST',
      path: '/peers/:aeTitle/echo',
      summary: 'C-ECHO to a configured peer',
      useCase: 'api.echo',
      event: 'Application Activity',
      action: 'E',
      answer: 'application/json',
      run: (request) => dimse.echo(request.call, { aeTitle: param(request, 'aeTitle') }),
    },
    {
      method: 'GET',
      path: '/associations',
      summary: 'Open DICOM associations',
      useCase: 'api.associations',
      event: 'Application Activity',
      action: 'R',
      answer: 'application/json',
      // Each door knows its own; one that is starting or gone is missing, and the number of those asked and heard says so.
      run: async ({ call }) => {
        const { answers, asked } = await ofEach(context.everywhere(DimseService), (one) =>
          one.listAssociations(call, {}),
        );
        return {
          associations: answers.flatMap(({ associations }) => associations),
          doors: { asked, heard: answers.length },
        };
      },
    },
    {
      method: 'GET',
      path: '/commitments',
      summary: 'Storage commitment reports that wait to be delivered',
      useCase: 'api.commitments',
      event: 'Application Activity',
      action: 'R',
      answer: 'application/json',
      run: ({ call }) => dimse.listCommitments(call, {}),
    },
    {
      method: 'GET',
      path: '/queue',
      summary: 'Durable jobs: waiting, running and dead ones',
      useCase: 'api.queue',
      event: 'Application Activity',
      action: 'R',
      answer: 'application/json',
      run: async ({ call }) => {
        const rows = (await context.jobs.list()).filter((row) => row.tenant === call.tenant);
        return { jobs: rows.map(({ payload: _payload, ...row }) => row) };
      },
    },
    {
      method: 'POST',
      path: '/queue/:queue/:key/retry',
      summary: 'Try a job again now, a dead one too',
      useCase: 'api.queue-retry',
      event: 'Application Activity',
      action: 'U',
      answer: 'application/json',
      run: async (request) => {
        // A job of another tenant is not there.
        if (!(await context.jobs.retry(request.call.tenant, param(request, 'queue'), param(request, 'key'))))
          throw new GantryError('not-found', 'there is no such job');
        return { retried: true };
      },
    },
    {
      method: 'DELETE',
      path: '/queue/:queue/:key',
      summary: 'Give a job up',
      useCase: 'api.queue-remove',
      event: 'Application Activity',
      action: 'D',
      answer: 'application/json',
      run: async (request) => {
        // A job of another tenant is not there.
        if (!(await context.jobs.remove(request.call.tenant, param(request, 'queue'), param(request, 'key'))))
          throw new GantryError('not-found', 'there is no such job');
        return { removed: true };
      },
    },
    {
      method: 'GET',
      path: '/trash',
      summary: 'Deleted studies that can be restored',
      useCase: 'api.trash',
      event: 'Application Activity',
      action: 'R',
      answer: 'application/json',
      run: async ({ call }) => ({
        studies: (await useCases.trash(call)).map(({ entries, ...row }) => ({ ...row, entries: entries.length })),
      }),
    },
    {
      method: 'POST',
      path: '/trash/:study/restore',
      summary: 'Bring a deleted study back, or one series or instance of it',
      useCase: 'api.restore',
      event: 'Application Activity',
      action: 'U',
      body: {
        series: { type: 'string', description: 'only this Series Instance UID' },
        instance: { type: 'string', description: 'only this SOP Instance UID' },
      },
      answer: 'application/json',
      run: async (request) => ({
        restored: await useCases.restore(request.call, {
          study: study(request),
          series: field(request, 'series'),
          instance: field(request, 'instance'),
        }),
      }),
    },
    {
      method: 'DELETE',
      path: '/trash/:study',
      summary: 'Purge a deleted study: it cannot be restored after this',
      useCase: 'api.purge',
      event: 'DICOM Study Deleted',
      action: 'D',
      answer: 'application/json',
      run: async (request) => ({ purged: await useCases.purge(request.call, study(request)) }),
    },
    {
      method: 'PUT',
      path: '/studies/:study/hold',
      summary: 'Put a study on hold: nothing of it is removed for good until the hold is lifted',
      useCase: 'api.hold',
      event: 'Application Activity',
      action: 'U',
      body: { reason: { type: 'string', description: 'kept with the hold, up to 256 characters; no patient data' } },
      answer: 'application/json',
      run: async (request) => {
        const reason = field<string>(request, 'reason') ?? '';
        if (reason.length > REASON_MAX)
          throw new GantryError('invalid-argument', `reason is longer than ${REASON_MAX} characters`);
        await useCases.hold(request.call, study(request), true, reason);
        return { onHold: true };
      },
    },
    {
      method: 'DELETE',
      path: '/studies/:study/hold',
      summary: 'Lift the hold of a study: what was purged of it may go',
      useCase: 'api.lift-hold',
      event: 'Application Activity',
      action: 'U',
      answer: 'application/json',
      run: async (request) => {
        await useCases.hold(request.call, study(request), false, '');
        return { onHold: false };
      },
    },
    {
      method: 'GET',
      path: '/conflicts',
      summary: 'Studies whose instances disagree, and instances that arrived in several versions',
      useCase: 'api.conflicts',
      event: 'Application Activity',
      action: 'R',
      answer: 'application/json',
      run: async ({ call }) => ({ conflicts: plain(await collect(index.conflicts(call, { studyInstanceUid: '' }))) }),
    },
    {
      method: 'POST',
      path: '/instances',
      summary: 'Store one Part 10 file',
      useCase: 'api.import',
      event: 'Import',
      action: 'C',
      rawBody: 'application/dicom',
      answer: 'application/json',
      run: async (request, reply) => {
        const { response } = await storePart10(
          request.call,
          {
            source: {
              door: 'IMPORT',
              callingAeTitle: '',
              calledAeTitle: '',
              address: request.peer.address,
              defaultCharset: '',
            },
            studyInstanceUid: '',
          },
          bodyOf(request, reply),
        );
        if (response.position !== undefined) written.note(request.call.tenant, httpWriter(request), response.position);
        if (response.sopInstanceUid !== '')
          request.auditObjects.push({ type: 'instance', id: response.sopInstanceUid });
        return response; // a refusal is an answer here: the importer counts it and goes on
      },
    },
    {
      method: 'POST',
      path: '/verify',
      summary: 'Compare the log with the index, both ways, and the bytes with their digests',
      useCase: 'api.verify',
      event: 'Application Activity',
      action: 'E',
      body: {
        studyInstanceUid: { type: 'string', description: 'only this study' },
        digests: { type: 'boolean', description: 'read every byte (default true)' },
      },
      answer: 'application/x-ndjson',
      run: async (request, reply) =>
        lines(
          reply,
          keeper.verify(request.call, {
            studyInstanceUid: field(request, 'studyInstanceUid') ?? '',
            digests: field<boolean>(request, 'digests') !== false,
          }),
        ),
    },
    {
      method: 'POST',
      path: '/rebuild',
      summary: 'Build the index anew from the log, while serving',
      useCase: 'api.rebuild',
      event: 'Application Activity',
      action: 'E',
      answer: 'application/x-ndjson',
      run: async (request, reply) => lines(reply, index.rebuild(request.call, {})),
    },
    {
      method: 'POST',
      path: '/compact',
      summary: 'Pack settled studies now instead of when it is their turn',
      useCase: 'api.compact',
      event: 'Application Activity',
      action: 'E',
      body: { studyInstanceUid: { type: 'string', description: 'only this study' } },
      answer: 'application/json',
      run: (request) => keeper.compact(long(request), { studyInstanceUid: field(request, 'studyInstanceUid') ?? '' }),
    },
    {
      method: 'POST',
      path: '/reclaim',
      summary: 'Remove replaced and purged bytes whose deletionDelay is over',
      useCase: 'api.reclaim',
      event: 'Application Activity',
      action: 'D',
      body: { now: { type: 'boolean', description: 'do not wait for deletionDelay: for a full disk' } },
      answer: 'application/json',
      run: (request) => keeper.reclaim(long(request), { now: field<boolean>(request, 'now') === true }),
    },
    {
      method: 'GET',
      path: '/conformance',
      summary: 'The DICOM conformance statement, from the tables that this code runs on',
      useCase: 'api.conformance',
      event: 'Application Activity',
      action: 'R',
      answer: 'text/markdown',
      run: async ({ call }, reply) =>
        reply.type('text/markdown; charset=utf-8').send((await dimse.conformance(call, {})).markdown),
    },
  ];
}
