import type { SettingsTable } from '#platform/module.ts';

export const indexSettings: SettingsTable = {
  'index.versionPolicy': {
    type: 'enum',
    values: ['keep-first', 'newest-wins', 'quarantine'],
    default: 'keep-first',
    doc: 'Which of several versions of one SOP instance shows; keep-first, because nobody should be able to replace an image by sending another one. A change rebuilds the index.',
  },
  'index.settleMs': {
    type: 'ms',
    default: 60_000,
    min: 100,
    doc: 'A study has settled when nothing new came for this long; a minute outlasts the pauses of a scanner between series.',
    reload: true,
  },
  'index.pollMs': {
    type: 'ms',
    default: 1_000,
    min: 10,
    doc: 'How often the log is looked at without being woken; a lost wake costs this long.',
    reload: true,
  },
  'index.awaitMaxMs': {
    type: 'ms',
    default: 10_000,
    min: 0,
    doc: 'The longest that a query waits for the positions of what its sender has just stored; then it answers with what there is.',
    limit: true,
    reload: true,
  },
  'index.readers': {
    type: 'integer',
    default: 2,
    min: 1,
    max: 32,
    doc: 'Threads that answer queries; two keep one long search from standing before everybody.',
  },
  'index.queriesMax': {
    type: 'integer',
    default: 256,
    min: 1,
    doc: 'Queries that run or wait at once; each may hold a read transaction and a few MiB. More are refused with unavailable.',
    limit: true,
    reload: true,
  },
  'index.queryIdleMs': {
    type: 'ms',
    default: 60_000,
    min: 10,
    doc: 'A query whose rows nobody takes for this long ends: its read transaction keeps the write-ahead log from shrinking.',
    limit: true,
    reload: true,
  },
  'index.metadataCacheBytes': {
    type: 'bytes',
    default: 64 * 2 ** 20,
    min: 0,
    doc: 'Metadata that each reader keeps ready; 64 MiB are about fifteen thousand instances.',
  },
  'index.tenants': {
    type: 'list',
    default: ['main'],
    doc: 'Tenants whose log is followed from the start; others are followed from their first commit on.',
  },
};
