import type { SettingsTable } from '#platform/module.ts';

const MIB = 1024 * 1024;

/** What this module may be told; every limit here is one that a sender can run into. */
export const settings: SettingsTable = {
  'storage.smallLimit': {
    type: 'bytes',
    default: 4 * MIB,
    min: 64 * 1024,
    max: 64 * MIB,
    limit: true,
    doc: 'Up to this length an instance is gathered whole and shares a flush with others; longer ones stream to an object of their own.',
  },
  'ingest.permitBytes': {
    type: 'bytes',
    default: 256 * MIB,
    min: 8 * MIB,
    limit: true,
    doc: 'Memory for instances on their way in. Each takes storage.smallLimit before its first byte is read, so the default lets 64 senders write at once.',
  },
  'ingest.permitBytesPerSender': {
    type: 'bytes',
    default: 128 * MIB,
    min: MIB,
    limit: true,
    reload: true,
    doc: 'What one sender (network address) may hold of ingest.permitBytes: half, so that one that opens many associations and dribbles cannot shut out all others.',
  },
  'ingest.permitWaiters': {
    type: 'integer',
    default: 1024,
    min: 0,
    limit: true,
    reload: true,
    doc: 'Instances that may wait for memory at once; one more is refused (A700, 503). A waiter costs a socket that is not read, and nothing else.',
  },
  'ingest.permitWaitMs': {
    type: 'ms',
    default: 20_000,
    min: 0,
    limit: true,
    reload: true,
    doc: 'How long an instance waits for memory before it is refused (A700, 503): less than the 30 s after which common senders give up by themselves.',
  },
  'ingest.streamBytes': {
    type: 'bytes',
    default: MIB,
    min: 64 * 1024,
    limit: true,
    doc: 'What a large instance goes on holding of ingest.permitBytes while it streams to storage: about what the buffers on its way hold.',
  },
  'ingest.headBytes': {
    type: 'bytes',
    default: 16 * MIB,
    min: MIB,
    limit: true,
    reload: true,
    doc: 'Longest head (everything but bulk values) of one instance; above it the instance is refused (A700). Enhanced multi-frame headers with 10^4 frames take about 10 MiB.',
  },
  'ingest.stowParallel': {
    type: 'integer',
    default: 16,
    min: 1,
    max: 256,
    limit: true,
    reload: true,
    doc: 'Instances of one STOW request that may be on their way to the disk at once, so that they share a flush.',
  },
  'ingest.stowParts': {
    type: 'integer',
    default: 100_000,
    min: 1,
    limit: true,
    reload: true,
    doc: 'Parts of one STOW request; one more ends the request (413). Each stored instance is a row of the answer, which is held in memory.',
  },
  'ingest.stowMetadataBytes': {
    type: 'bytes',
    default: 16 * MIB,
    min: MIB,
    limit: true,
    reload: true,
    doc: 'Longest metadata part (application/dicom+json) of a STOW request: it is parsed as a whole, while everything else in the process waits.',
  },
  'ingest.stowBulkBytes': {
    type: 'bytes',
    default: 128 * MIB,
    min: 0,
    limit: true,
    reload: true,
    doc: 'Memory for small bulk data parts (to 1 MiB) that wait for the rest of their instance, over all STOW requests; beyond, they wait in files.',
  },
  'ingest.stowSpoolBytes': {
    type: 'bytes',
    default: 8 * 1024 * MIB,
    min: MIB,
    limit: true,
    reload: true,
    doc: 'Disk (derived/stow) for the other bulk data parts; one more is refused (A700, 503). Instances sent as application/dicom are streamed and need none.',
  },
};

/** A part's headers are three or four short lines; more is an attack or no MIME. */
export const PART_HEADER_BYTES_MAX = 16 * 1024;
/** Chunks below this are copied together: a body of one-byte fragments must not cost a Buffer object a byte. */
export const CHUNK_BYTES_MIN = 2048;
