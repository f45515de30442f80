/**
 * Which calls may be made again after their connection broke: those that change nothing, or the same thing once more. A test holds this
 * table to the protos: each method is in one of the two columns. (A call that no process has seen goes to another one in any case.)
 */
export const REPEATABLE = [
  '/gantry.auth.v1.Auth/Authenticate',
  '/gantry.auth.v1.Auth/Authorize',
  '/gantry.gateway.v1.Dimse/Conformance',
  '/gantry.gateway.v1.Dimse/Echo',
  '/gantry.gateway.v1.Dimse/ListAssociations',
  '/gantry.gateway.v1.Dimse/ListCommitments',
  '/gantry.gateway.v1.Dimse/ListPeers',
  '/gantry.index.v1.Index/Await',
  '/gantry.index.v1.Index/Conflicts',
  '/gantry.index.v1.Index/Counts',
  '/gantry.index.v1.Index/Entries',
  '/gantry.index.v1.Index/Fates',
  '/gantry.index.v1.Index/Locate',
  '/gantry.index.v1.Index/Search',
  '/gantry.index.v1.Index/Settled',
  '/gantry.index.v1.Index/Trash',
  '/gantry.ingest.v1.Ingest/Status',
  '/gantry.storage.v1.Data/Heads',
  '/gantry.storage.v1.Data/ReadLog',
  '/gantry.storage.v1.Data/Space',
  '/gantry.storage.v1.Keeper/Status',
  '/gantry.storage.v1.Keeper/Verify',
] as const;

/** Made once. Whether it was done is found out by asking (a control entry is in the log or not). */
export const ONCE = [
  '/gantry.index.v1.Index/Rebuild',
  '/gantry.storage.v1.Data/Append',
  '/gantry.storage.v1.Keeper/Compact',
  '/gantry.storage.v1.Keeper/Reclaim',
] as const;

const repeatable = new Set<string>(REPEATABLE);
export const isRepeatable = (path: string): boolean => repeatable.has(path);

/** Data-plane routes that only read. */
export const REPEATABLE_ROUTES: ReadonlySet<string> = new Set(['storage.read', 'index.metadata']);
