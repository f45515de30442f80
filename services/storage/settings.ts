import type { Settings, SettingsTable } from '#platform/module.ts';
import type { ArchiveOptions } from './adapters/fs/archive.ts';

const MiB = 1024 * 1024;

export const storageSettings = {
  'storage.smallLimit': {
    type: 'bytes',
    default: 4 * MiB,
    min: 64 * 1024,
    max: 64 * MiB,
    limit: true,
    doc: 'Instances up to this many bytes are gathered whole into commits; larger ones stream to objects of their own.',
  },
  'storage.reserveBytes': {
    type: 'bytes',
    default: 1024 * MiB,
    min: 0,
    limit: true,
    reload: true,
    doc: 'Free disk space below which new instances are refused, so that the index, deletes and compaction can go on.',
  },
  'storage.commitBytes': {
    type: 'bytes',
    default: 16 * MiB,
    min: MiB,
    max: 256 * MiB,
    doc: 'Largest commit of gathered instances: what a power cut can leave torn, and what recovery verifies.',
  },
  'storage.commitInstances': {
    type: 'integer',
    default: 256,
    min: 1,
    max: 4096,
    doc: 'Most entries gathered in one commit, so that one table of contents stays small.',
  },
  'storage.queueBytes': {
    type: 'bytes',
    default: 256 * MiB,
    min: MiB,
    limit: true,
    doc: 'Bytes that may be on their way into a commit; beyond it appends are refused. Ingest’s permits (ingest.permitBytes) bind first.',
  },
  'storage.queueEntries': {
    type: 'integer',
    default: 4096,
    min: 1,
    limit: true,
    doc: 'Entries that may wait for a commit; beyond it appends are refused.',
  },
  'storage.controlBytes': {
    type: 'bytes',
    default: 4 * MiB,
    min: 4096,
    limit: true,
    doc: 'Largest request of control entries, encoded; gRPC’s own limit for a message is the same.',
  },
  'storage.segmentBytes': {
    type: 'bytes',
    default: 256 * MiB,
    min: MiB,
    max: 4096 * MiB,
    doc: 'A segment is sealed when it has grown to this: large enough for few files, small enough to compact and copy at a time.',
  },
  'storage.segmentAgeMs': {
    type: 'ms',
    default: 60 * 60 * 1000,
    min: 1000,
    doc: 'A segment older than this is sealed, so that a quiet archive is compacted and backed up too.',
  },
  'storage.openFiles': {
    type: 'integer',
    default: 256,
    min: 4,
    doc: 'Archive files kept open for reading; a quarter of the usual limit of 1,024 descriptors.',
  },
  'storage.tableCacheBytes': {
    type: 'bytes',
    default: 64 * MiB,
    min: MiB,
    doc: 'Memory for the youngest tables of contents, so that a fold that keeps up reads no disk.',
  },
  'storage.readRanges': {
    type: 'integer',
    default: 65_536,
    min: 1,
    limit: true,
    doc: 'Most ranges in one read request.',
  },
} as const satisfies SettingsTable;

export function checkStorageSettings(settings: Settings): string[] {
  const problems: string[] = [];
  if (settings.number('storage.smallLimit') > settings.number('storage.commitBytes'))
    problems.push(
      'storage.smallLimit is larger than storage.commitBytes: raise storage.commitBytes, so that a commit can hold an instance.',
    );
  if (settings.number('storage.commitBytes') > settings.number('storage.segmentBytes'))
    problems.push(
      'storage.commitBytes is larger than storage.segmentBytes: every commit would be a file of its own. Raise storage.segmentBytes.',
    );
  return problems;
}

export function archiveOptions(
  settings: Settings,
): Pick<ArchiveOptions, 'gather' | 'segment' | 'tableCacheBytes' | 'openFiles' | 'reserveBytes'> {
  return {
    gather: {
      commitBytes: settings.number('storage.commitBytes'),
      commitEntries: settings.number('storage.commitInstances'),
      queueBytes: settings.number('storage.queueBytes'),
      queueEntries: settings.number('storage.queueEntries'),
    },
    segment: {
      segmentBytes: settings.number('storage.segmentBytes'),
      segmentAgeMs: settings.number('storage.segmentAgeMs'),
      restMs: 1000,
    },
    tableCacheBytes: settings.number('storage.tableCacheBytes'),
    openFiles: settings.number('storage.openFiles'),
    reserveBytes: () => settings.number('storage.reserveBytes'),
  };
}
