import type { Call } from '#platform/call.ts';
import { GantryError } from '#platform/errors.ts';
import type { Context } from '#platform/module.ts';
import { BULK } from '#platform/routes.ts';
import type { Bytes, Service } from '#platform/rpc.types.ts';
import {
  type CountsResponse,
  IndexService,
  type MetadataRequest,
  type MetadataResponse,
} from '#proto/index/v1/index.ts';
import type { DataService } from '#proto/storage/v1/storage.ts';
import { idKey } from './fold/order.ts';
import type { FoldTraces } from './fold-traces.ts';
import type { Follower } from './follow.ts';
import type { IndexStore } from './ports.ts';
import type { Rebuilder } from './rebuild.ts';
import { SEARCH_LIMITS } from './search/settings.ts';
import { recoverHeads } from './settle.ts';
import { MissingHeads } from './state/heads.ts';

export interface Parts {
  data: Pick<Service<typeof DataService>, 'readLog' | 'heads'>;
  store: IndexStore;
  follower: Follower;
  rebuilder: Rebuilder;
  alarms: ReadonlySet<string>;
  traces: FoldTraces;
}

/** Doors authorise and audit; here every call is answered for its tenant. */
export function serveIndex(context: Context, parts: Parts): void {
  const { follower, rebuilder } = parts;
  const { settings } = context;
  const rows = <Row>(name: string) =>
    async function* (call: Call, request: unknown): AsyncGenerator<Row> {
      yield* asking<Row>(parts, call, name, { tenant: call.tenant, request });
    };
  context.serve(IndexService, {
    search: (call, request) =>
      asking(parts, call, 'search', {
        tenant: call.tenant,
        request,
        limits: {
          rowsMax: settings.number('index.searchRowsMax'),
          studiesScannedMax: settings.number('index.searchStudiesScannedMax'),
          headersScannedMax: settings.number('index.searchHeadersScannedMax'),
          lookupMax: LOOKUP_MAX,
        },
      }),
    locate: (call, request) =>
      parts.traces.locating(call, request.studyInstanceUids, (inner) =>
        asking(parts, inner, 'locate', { tenant: call.tenant, request }, request.studyInstanceUids[0]),
      ),
    async await(call, { positions, limitMs, byUid }) {
      const limit = Math.min(limitMs, settings.number('index.awaitMaxMs'));
      return { reached: await follower.reached(call.tenant, positions, limit, call.signal, byUid) };
    },
    async counts(call) {
      let counts: Omit<CountsResponse, 'lagCommits' | 'alarms'> | undefined;
      for await (const one of asking<typeof counts>(parts, call, 'counts', { tenant: call.tenant })) counts = one;
      if (!counts) throw new GantryError('internal', 'the index gave no counts');
      const folded = new Map(counts.positions.map((one) => [one.lane, one.sequence]));
      const heads = await parts.data.heads(call, {});
      const lagCommits = heads.positions.reduce(
        (sum, { lane, sequence }) => sum + Math.max(0, sequence - (folded.get(lane) ?? 0)),
        0,
      );
      return { ...counts, lagCommits, alarms: [...parts.alarms] };
    },
    trash: rows('trash'),
    conflicts: rows('conflicts'),
    entries: rows('entries'),
    settled: rows('settled'),
    fates: rows('fates'),
    rebuild: (call) => rebuilder.watch(call.signal),
  });
  context.serveBulk(BULK.metadata, (call, request) => metadataOf(parts, call, request));
}
/** As search/settings.ts has it: a way of reading, not a limit that anybody meets. */
const LOOKUP_MAX = SEARCH_LIMITS.lookupMax;

/** A query; where headers were lost before its first row, they are read from the log and it is asked again. */
async function* asking<Row>(
  parts: Parts,
  call: Call,
  name: string,
  args: unknown,
  affinity?: string,
): AsyncGenerator<Row> {
  const options = { signal: call.signal, ...(affinity === undefined ? {} : { affinity }) };
  const recovered = new Set<string>();
  for (;;) {
    let given = 0;
    try {
      for await (const row of parts.store.query<Row>(name, args, options)) {
        given++;
        yield row;
      }
      return;
    } catch (error) {
      if (!(error instanceof MissingHeads)) throw error;
      // Asked for a second time: the log does not give them either.
      if (error.entries.some((id) => recovered.has(idKey(id))))
        throw new GantryError('damaged', 'headers are neither in the index nor in the log', { cause: error });
      for (const id of error.entries) recovered.add(idKey(id));
      await recoverHeads(parts.data, parts.store.settling, call.tenant, error.entries, call.signal);
      // Rows are out already: they cannot be taken back, but the caller's next attempt finds the headers.
      if (given > 0) throw new GantryError('unavailable', 'headers were read from the log again', { cause: error });
    }
  }
}
async function metadataOf(
  parts: Parts,
  call: Call,
  request: MetadataRequest,
): Promise<{ response: MetadataResponse; body?: Bytes }> {
  if (request.studyInstanceUid === '') throw new GantryError('invalid-argument', 'metadata is asked of a study');
  const rows = asking<MetadataResponse | Uint8Array>(
    parts,
    call,
    'metadata',
    { tenant: call.tenant, request },
    request.studyInstanceUid,
  );
  const iterator = rows[Symbol.asyncIterator]();
  const first = await iterator.next();
  if (first.done || first.value instanceof Uint8Array)
    throw new GantryError('internal', 'metadata without its beginning');
  if (!first.value.found) return { response: first.value };
  return { response: first.value, body: bytesOf(iterator) };
}

async function* bytesOf(iterator: AsyncIterator<unknown>): AsyncGenerator<Buffer> {
  try {
    for (let next = await iterator.next(); !next.done; next = await iterator.next()) {
      const part = next.value as Uint8Array;
      yield Buffer.from(part.buffer, part.byteOffset, part.byteLength);
    }
  } finally {
    await iterator.return?.();
  }
}
