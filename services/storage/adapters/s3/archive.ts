import { ulid } from 'ulid';
import { GantryError } from '#platform/errors.ts';
import { ARCHIVE_FORMAT, formatJson, formatOf } from '../../log/format.ts';
import type { GatherLimits } from '../../log/gather.ts';
import type { Archive, StateStore } from '../../ports.ts';
import { shareArchive } from '../shared.ts';
import { awaitStore } from './await-store.ts';
import { MinioBucket, type S3Options } from './bucket.minio.ts';
import { type Bucket, type Clockwork, isFault, realClockwork } from './bucket.ts';
import { type S3LogOptions, S3LogStore } from './log-store.ts';
import { S3ObjectStore } from './object-store.ts';

export interface S3ArchiveOptions
  extends Pick<
    S3LogOptions,
    'lanes' | 'limits' | 'segmentBytes' | 'tableCacheBytes' | 'lookMs' | 'deadMs' | 'now' | 'onAlarm' | 'onCommit'
  > {
  readonly gather: GatherLimits;
  readonly clockwork?: Clockwork;
  /** Large bodies on their way at a time: each holds up to two parts of 16 MiB. */
  readonly uploads: number;
  readonly allowUnconditional: boolean;
}

export type S3Archive = Archive & {
  readonly log: S3LogStore;
  readonly objects: S3ObjectStore;
  readonly state: StateStore;
};

/** A store that said "no room" is believed for so long, and then asked again. */
const FULL_MS = 5000;

export async function openArchiveIn(bucket: Bucket, options: S3ArchiveOptions): Promise<S3Archive> {
  if (!options.allowUnconditional) await checkConditions(bucket);
  await checkFormat(bucket);
  const clockwork = options.clockwork ?? realClockwork;
  let fullAt = Number.NEGATIVE_INFINITY;
  const watched = watchFull(bucket, () => (fullAt = clockwork.elapsedMs()));
  const log = new S3LogStore({ ...options, bucket: watched, clockwork });
  return {
    log,
    objects: new S3ObjectStore(watched, clockwork, options.uploads),
    state: stateIn(watched),
    async room() {
      const accepting = clockwork.elapsedMs() - fullAt >= FULL_MS;
      return { freeBytes: accepting ? Number.MAX_SAFE_INTEGER : 0, reserveBytes: 0, accepting };
    },
    close: () => log.close(),
  };
}

/** Two puts of one key: the second must be refused, or two writers could take the same number. */
async function checkConditions(bucket: Bucket): Promise<void> {
  const key = `derived/probe/${ulid()}`;
  await bucket.put(key, Buffer.from('first'), { ifAbsent: true });
  try {
    await bucket.put(key, Buffer.from('second'), { ifAbsent: true });
  } catch (error) {
    if (isFault(error, 'exists')) return;
    throw error;
  } finally {
    await bucket.remove(key).catch(() => {}); // a few bytes in the area that may be lost
  }
  throw new GantryError(
    'failed-precondition',
    'the S3 store ignores If-None-Match and overwrites what is there: two processes could write the same commit, and one would be lost. Use a store with conditional writes, or set storage.s3.allowUnconditional when only one process ever writes',
  );
}

async function checkFormat(bucket: Bucket): Promise<void> {
  const got = await bucket.get('format.json');
  if (!got)
    return bucket.put('format.json', formatJson(), { ifAbsent: true }).catch((error) => {
      if (!isFault(error, 'exists')) throw error; // another process was faster
    });
  const format = formatOf(got.bytes);
  if (format !== ARCHIVE_FORMAT)
    throw new GantryError(
      'failed-precondition',
      `the archive in the bucket has format ${String(format)}, this release reads format ${ARCHIVE_FORMAT}: start the release that wrote it, or a newer one`,
    );
}

const stateIn = (bucket: Bucket): StateStore => ({
  async *list(prefix) {
    for await (const page of bucket.list(prefix))
      for (const { key, tag } of page) yield { object: key, tag: tag ?? '' };
  },
  get: async (object) => (await bucket.get(object))?.bytes,
  put: (object, bytes) => bucket.put(object, bytes),
  remove: (object) => bucket.remove(object),
});

function watchFull(bucket: Bucket, onFull: () => void): Bucket {
  const watch = async <T>(work: Promise<T>): Promise<T> => {
    try {
      return await work;
    } catch (error) {
      if (isFault(error, 'full')) onFull();
      throw error;
    }
  };
  return {
    put: (key, body, options) => watch(bucket.put(key, body, options)),
    get: (key, range) => bucket.get(key, range),
    head: (key) => bucket.head(key),
    list: (prefix, options) => bucket.list(prefix, options),
    remove: (key) => bucket.remove(key),
    uploads: (prefix) => bucket.uploads(prefix),
    now: () => bucket.now(),
    async beginUpload(key) {
      const upload = await watch(bucket.beginUpload(key));
      return { ...upload, part: (number, body) => watch(upload.part(number, body)) };
    },
  };
}

/** Waits for a store that does not answer; `away` is told. What will not be otherwise in an hour fails at once. */
export function openS3Archive(
  s3: S3Options,
  options: S3ArchiveOptions,
  away: (error: GantryError, tries: number) => void = () => {},
): Promise<Archive> {
  const place = JSON.stringify([s3.endpoint, s3.logBucket, s3.packBucket, s3.derivedBucket, s3.accessKeyFile]);
  const clockwork = options.clockwork ?? realClockwork;
  return shareArchive(place, () => awaitStore(() => connect(s3, options), clockwork, away));
}

async function connect(s3: S3Options, options: S3ArchiveOptions): Promise<Archive> {
  const bucket = new MinioBucket({ ...s3, unconditional: options.allowUnconditional });
  try {
    await bucket.checkBuckets();
    const archive = await openArchiveIn(bucket, options);
    return {
      log: archive.log,
      objects: archive.objects,
      state: archive.state,
      room: archive.room,
      async close() {
        await archive.close();
        bucket.close();
      },
    };
  } catch (error) {
    bucket.close();
    throw error;
  }
}
