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
import { metadata } from '../../metadata/serve.ts';
import { conflicts, entries, fates, locate, settled, trash } from '../../questions/queries.ts';
import { now } from '../../questions/reading.ts';
import { runSearch } from '../../search/search.ts';
import type { SearchLimits } from '../../search/settings.ts';
import { metadataObjects } from './metadata-objects.ts';
import type { SqliteReader } from './reader.ts';
import { SqliteSearchStore } from './search-store.ts';

interface Args<Request> {
  tenant: string;
  request: Request;
}

/** Every question that a reader answers: `store.query(name, { tenant, request })` streams what the iterable yields. */
export const QUERIES: Record<string, (reader: SqliteReader, args: never) => Iterable<unknown>> = {
  search: (reader, { tenant, request, limits }: Args<SearchRequest> & { limits: SearchLimits }) =>
    runSearch(new SqliteSearchStore(reader), tenant, request, limits),
  locate: ({ asked }, { tenant, request }: Args<LocateRequest>) => locate(asked, tenant, request),
  counts: (reader, { tenant }: Args<unknown>) => [now(reader.counts(tenant))],
  trash: ({ asked }, { tenant, request }: Args<TrashRequest>) => trash(asked, tenant, request.studyInstanceUid),
  conflicts: ({ asked }, { tenant, request }: Args<ConflictsRequest>) =>
    conflicts(asked, tenant, request.studyInstanceUid),
  entries: ({ asked }, { tenant, request }: Args<EntriesRequest>) => entries(asked, tenant, request),
  settled: ({ asked }, { tenant, request }: Args<SettledRequest>) => settled(asked, tenant, request),
  fates: ({ asked }, { tenant, request }: Args<FatesRequest>) => fates(asked, tenant, request),
  metadata: ({ asked }, { tenant, request }: Args<MetadataRequest>) => metadata(asked, tenant, request),
  metadataObjects: (reader, { directory, study }: { directory: string; study: number }) =>
    metadataObjects(reader, directory, study),
};
