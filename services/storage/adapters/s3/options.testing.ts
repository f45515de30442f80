import type { S3ArchiveOptions } from './archive.ts';

/** For tests: segments of 64 KiB, small commits, a cache that holds little, and no patience. */
export const TEST_OPTIONS: S3ArchiveOptions = {
  gather: { commitBytes: 256 * 1024, commitEntries: 16, queueBytes: 2 ** 30, queueEntries: 4096 },
  lanes: 4,
  limits: { commitMs: 5000, restMs: 0, laneAgeMs: 24 * 60 * 60 * 1000 },
  segmentBytes: 64 * 1024,
  tableCacheBytes: 4096,
  lookMs: 0,
  deadMs: 60_000,
  uploads: 8,
  allowUnconditional: false,
};
