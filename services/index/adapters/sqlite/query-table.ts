import type { DatabaseSync } from 'node:sqlite';
import type {
  ConflictsRequest,
  EntriesRequest,
  FatesRequest,
  LocateRequest,
  MetadataRequest,
  SearchRequest,
  SettledRequest,
  TrashRequest,
} from '#proto/index/v1/index.ts';
import { metadata, metadataObjects } from '../../metadata/serve.ts';
import { runSearch } from '../../search/search.ts';
import type { SearchLimits } from '../../search/settings.ts';
import { conflicts, counts, entries, fates, locate, settled, trash } from './queries.ts';

interface Args<Request> {
  tenant: string;
  request: Request;
}

/** Every question that a reader answers: `store.query(name, { tenant, request })` streams what the iterable yields. */
export const QUERIES: Record<string, (db: DatabaseSync, args: never) => Iterable<unknown>> = {
  search: (db, { tenant, request, limits }: Args<SearchRequest> & { limits: SearchLimits }) =>
    runSearch(db, tenant, request, { limits }),
  locate: (db, { tenant, request }: Args<LocateRequest>) => locate(db, tenant, request),
  counts: (db, { tenant }: Args<unknown>) => [counts(db, tenant)],
  trash: (db, { tenant, request }: Args<TrashRequest>) => trash(db, tenant, request.studyInstanceUid),
  conflicts: (db, { tenant, request }: Args<ConflictsRequest>) => conflicts(db, tenant, request.studyInstanceUid),
  entries: (db, { tenant, request }: Args<EntriesRequest>) => entries(db, tenant, request),
  settled: (db, { tenant, request }: Args<SettledRequest>) => settled(db, tenant, request),
  fates: (db, { tenant, request }: Args<FatesRequest>) => fates(db, tenant, request),
  metadata: (db, { tenant, request }: Args<MetadataRequest>) => metadata(db, tenant, request),
  metadataObjects: (db, { study }: { study: number }) => metadataObjects(db, study),
};
