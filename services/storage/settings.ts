import type { Settings, SettingsTable } from '#platform/module.ts';
import type { ArchiveOptions } from './adapters/fs/archive.ts';
import type { S3ArchiveOptions } from './adapters/s3/archive.ts';
import type { S3Options } from './adapters/s3/bucket.minio.ts';

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
  'storage.s3.endpoint': {
    type: 'string',
    default: '',
    doc: 'http(s)://host[:port] of an S3 store: set, the archive lies there instead of in the data directory.',
  },
  'storage.s3.region': { type: 'string', default: 'us-east-1', doc: 'Region that requests are signed for.' },
  'storage.s3.bucket': { type: 'string', default: '', doc: 'Bucket of the archive; it must exist.' },
  'storage.s3.logBucket': { type: 'string', default: '', doc: 'Bucket of the log; empty: storage.s3.bucket.' },
  'storage.s3.packBucket': {
    type: 'string',
    default: '',
    doc: 'Bucket of packs and large instances, where retention and tiers apply; empty: storage.s3.bucket.',
  },
  'storage.s3.derivedBucket': {
    type: 'string',
    default: '',
    doc: 'Bucket of what may be lost and is made again; empty: storage.s3.bucket.',
  },
  'storage.s3.accessKeyFile': { type: 'path', default: '', doc: 'File with the access key.' },
  'storage.s3.secretKeyFile': { type: 'path', default: '', doc: 'File with the secret key.' },
  'storage.s3.caFile': {
    type: 'path',
    default: '',
    doc: 'PEM of the authority that signed the certificate of the store.',
  },
  'storage.s3.pathStyle': {
    type: 'boolean',
    default: true,
    doc: 'Bucket in the path instead of in the host name, as every store but AWS wants it.',
  },
  'storage.s3.allowUnconditional': {
    type: 'boolean',
    default: false,
    doc: 'Go on with a store that ignores If-None-Match. Only where a single process ever writes: else commits can be lost.',
  },
  'storage.s3.lanes': {
    type: 'integer',
    default: 4,
    min: 1,
    max: 64,
    doc: 'Commits in flight of one tenant and process: with 1 % of PUTs at 1 s, one lane gave p99 1,043 ms, four gave 53 ms.',
  },
  'storage.s3.requestMs': {
    type: 'ms',
    default: 10_000,
    min: 100,
    limit: true,
    doc: 'One request to the store, its answer read: then it counts as unclear.',
  },
  'storage.s3.commitMs': {
    type: 'ms',
    default: 20_000,
    min: 100,
    doc: 'How long an unclear commit is tried with the same bytes before its senders are refused (A700, 503).',
  },
  'storage.s3.requests': {
    type: 'integer',
    default: 64,
    min: 1,
    doc: 'Reads, lists and parts in flight at a time; the others wait. Commits are bounded by their lanes.',
  },
  'storage.s3.uploads': {
    type: 'integer',
    default: 8,
    min: 1,
    doc: 'Large instances and packs on their way at a time: each holds up to two parts of 16 MiB.',
  },
  'storage.s3.lookMs': {
    type: 'ms',
    default: 1000,
    min: 10,
    doc: 'How often a reader that nobody woke looks for commits of other processes: some 0.4 € a day for 40 open lanes.',
  },
  'storage.s3.deadMs': {
    type: 'ms',
    default: 180_000,
    min: 1000,
    doc: 'A lane whose process was silent for so long is closed; three times what a living one needs to say so.',
  },
  'storage.s3.laneAgeMs': {
    type: 'ms',
    default: 24 * 60 * 60 * 1000,
    min: 1000,
    max: 24 * 60 * 60 * 1000,
    doc: 'A lane ends when it is so old, so that its objects can be merged into few.',
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
  if (settings.string('storage.s3.endpoint') !== '') {
    if (!URL.canParse(settings.string('storage.s3.endpoint')))
      problems.push('storage.s3.endpoint is no URL: write it like https://s3.example.org.');
    const buckets = ['storage.s3.logBucket', 'storage.s3.packBucket', 'storage.s3.derivedBucket'];
    if (settings.string('storage.s3.bucket') === '' && buckets.some((key) => settings.string(key) === ''))
      problems.push('storage.s3.bucket is not set: name the bucket that holds the archive.');
  }
  return problems;
}

export function s3Options(settings: Settings): { s3: S3Options; archive: S3ArchiveOptions } {
  const bucketOf = (key: string): string => settings.string(key) || settings.string('storage.s3.bucket');
  const { gather, segment, tableCacheBytes } = archiveOptions(settings);
  return {
    s3: {
      endpoint: settings.string('storage.s3.endpoint'),
      region: settings.string('storage.s3.region'),
      pathStyle: settings.boolean('storage.s3.pathStyle'),
      accessKeyFile: settings.string('storage.s3.accessKeyFile'),
      secretKeyFile: settings.string('storage.s3.secretKeyFile'),
      caFile: settings.string('storage.s3.caFile'),
      logBucket: bucketOf('storage.s3.logBucket'),
      packBucket: bucketOf('storage.s3.packBucket'),
      derivedBucket: bucketOf('storage.s3.derivedBucket'),
      requestMs: settings.number('storage.s3.requestMs'),
      requests: settings.number('storage.s3.requests'),
    },
    archive: {
      gather,
      tableCacheBytes,
      segmentBytes: segment.segmentBytes,
      lanes: settings.number('storage.s3.lanes'),
      limits: {
        commitMs: settings.number('storage.s3.commitMs'),
        restMs: segment.restMs,
        laneAgeMs: settings.number('storage.s3.laneAgeMs'),
      },
      lookMs: settings.number('storage.s3.lookMs'),
      deadMs: settings.number('storage.s3.deadMs'),
      uploads: settings.number('storage.s3.uploads'),
      allowUnconditional: settings.boolean('storage.s3.allowUnconditional'),
    },
  };
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
