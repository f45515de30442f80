import type { SettingsTable } from '#platform/module.ts';

const MiB = 1024 * 1024;
const HOUR = 3_600_000;

export const keeperSettings = {
  'keeper.intervalMs': {
    type: 'ms',
    default: 5 * 60_000,
    min: 1000,
    doc: 'How often the keeper looks for settled studies to pack and for replaced bytes to remove.',
  },
  'keeper.studiesPerRun': {
    type: 'integer',
    default: 256,
    min: 1,
    doc: 'Studies packed in one run, so that compaction never keeps the disk busy for long.',
  },
  'keeper.packBytes': {
    type: 'bytes',
    default: 512 * MiB,
    min: MiB,
    max: 8192 * MiB,
    doc: 'Largest pack; a larger study gets several. A pack never mixes studies.',
  },
  'keeper.deletionDelayMs': {
    type: 'ms',
    default: 24 * HOUR,
    min: 0,
    reload: true,
    doc: 'Bytes that were moved or purged stay this long, so that slow readers and file-level backups still find them. `gantry reclaim --now` does not wait.',
  },
  'keeper.orphanAgeMs': {
    type: 'ms',
    default: 24 * HOUR,
    min: HOUR,
    reload: true,
    doc: 'An object that no log entry names is removed when it is older: longer than any upload lasts.',
  },
  'keeper.exportMs': {
    type: 'ms',
    default: 60_000,
    min: 1000,
    doc: 'How often configured facts that changed are exported to the S3 store; on a disk they are files of data/state anyway.',
  },
  'keeper.enabled': {
    type: 'boolean',
    default: true,
    reload: true,
    doc: 'Pack and reclaim by itself; when false only `gantry compact` and `gantry reclaim` do.',
  },
} satisfies SettingsTable;
