/** Every limit of the upper layer: name, default, unit, reason. The gateway's settings table shows and overrides them. */
export interface LimitRow {
  default: number;
  unit: 'bytes' | 'ms' | 'count';
  min: number;
  max: number;
  reason: string;
}

const SECOND = 1000;
const KIB = 1024;

export const LIMITS = {
  pduLengthMax: {
    default: 128 * KIB,
    unit: 'bytes',
    min: 128,
    max: 16 * KIB * KIB,
    reason: 'the maximum length we offer for P-DATA-TF (PS3.8 §D.1); larger ones gained nothing in our measurement',
  },
  pduLengthSent: {
    default: 128 * KIB,
    unit: 'bytes',
    min: 128,
    max: 16 * KIB * KIB,
    reason: 'P-DATA-TF length towards a peer that takes more, or any (0)',
  },
  pduLengthReceived: {
    default: 64 * KIB * KIB,
    unit: 'bytes',
    min: 128,
    max: 0xffffffff,
    reason:
      'a P-DATA-TF longer than this is refused although it is streamed: no sane peer sends one beyond what we offered',
  },
  controlPduLengthMax: {
    default: 512 * KIB,
    unit: 'bytes',
    min: 4 * KIB,
    max: 16 * KIB * KIB,
    reason: 'A-ASSOCIATE PDUs are held in memory; 128 contexts with 60 syntaxes each are about 500 kB',
  },
  commandLengthMax: {
    default: 64 * KIB,
    unit: 'bytes',
    min: 1 * KIB,
    max: 16 * KIB * KIB,
    reason: 'a command set is held in memory; real ones have 100–300 bytes',
  },
  receiveQueueBytes: {
    default: 512 * KIB,
    unit: 'bytes',
    min: 64 * KIB,
    max: 64 * KIB * KIB,
    reason: 'unread data above which the socket is not read: back-pressure to the sender',
  },
  interleavedBytesMax: {
    default: 2 * KIB * KIB,
    unit: 'bytes',
    min: 64 * KIB,
    max: 64 * KIB * KIB,
    reason: 'data of messages that nobody serves yet while somebody waits for bytes behind them; above it we abort',
  },
  lingerBytes: {
    default: 4 * KIB * KIB,
    unit: 'bytes',
    min: 0,
    max: 1024 * KIB * KIB,
    reason:
      'read and thrown away after our A-ABORT, so that a reset does not overtake it; who goes on sending is reset',
  },
  queuedMessagesMax: {
    default: 32,
    unit: 'count',
    min: 2,
    max: 1024,
    reason: 'messages a peer may send ahead of our answers before the socket is not read',
  },
  artimMs: {
    default: 30 * SECOND,
    unit: 'ms',
    min: 100,
    max: 3600 * SECOND,
    reason: 'ARTIM (PS3.8 §9.1.5): from the connection to the A-ASSOCIATE-RQ, and from our last PDU to the close',
  },
  acceptTimeoutMs: {
    default: 30 * SECOND,
    unit: 'ms',
    min: 100,
    max: 3600 * SECOND,
    reason: 'requestor: from the connection attempt to the A-ASSOCIATE-AC',
  },
  releaseTimeoutMs: {
    default: 10 * SECOND,
    unit: 'ms',
    min: 100,
    max: 3600 * SECOND,
    reason: 'requestor: from A-RELEASE-RQ to A-RELEASE-RP; then A-ABORT',
  },
  pduTimeoutMs: {
    default: 30 * SECOND,
    unit: 'ms',
    min: 100,
    max: 3600 * SECOND,
    reason: 'a PDU must end, or progressBytes more of it come, within this time: a byte a second is cut off',
  },
  messageTimeoutMs: {
    default: 60 * SECOND,
    unit: 'ms',
    min: 100,
    max: 3600 * SECOND,
    reason: 'the same for a message of many PDUs: a silent or dripping sender does not hold a permit for ever',
  },
  progressBytes: {
    default: 16 * KIB,
    unit: 'bytes',
    min: 1,
    max: 16 * KIB * KIB,
    reason: 'what counts as progress for pduTimeoutMs and messageTimeoutMs',
  },
  idleMs: {
    default: 3600 * SECOND,
    unit: 'ms',
    min: 100,
    max: 7 * 24 * 3600 * SECOND,
    reason:
      'an association without traffic or work; modalities keep theirs open for long. Ends with A-ABORT, never A-RELEASE-RQ',
  },
  sendTimeoutMs: {
    default: 300 * SECOND,
    unit: 'ms',
    min: 100,
    max: 3600 * SECOND,
    reason: 'a write of at most sendBatchBytes must be taken by the peer within this time; some are slow for minutes',
  },
  responseTimeoutMs: {
    default: 600 * SECOND,
    unit: 'ms',
    min: 100,
    max: 24 * 3600 * SECOND,
    reason: 'silence before a response to a request of ours',
  },
  sendBatchBytes: {
    default: 256 * KIB,
    unit: 'bytes',
    min: 1 * KIB,
    max: 16 * KIB * KIB,
    reason: 'what is handed to the socket in one writev before we wait for the peer',
  },
  unnegotiatedMax: {
    default: 256,
    unit: 'count',
    min: 1,
    max: 65536,
    reason:
      'connections that have not asked for an association; beyond, the oldest are closed after 100 ms, so idle ones never keep a modality out',
  },
  keepAliveMs: {
    default: 60 * SECOND,
    unit: 'ms',
    min: 1 * SECOND,
    max: 7200 * SECOND,
    reason: 'TCP keep-alive: notices a peer that vanished, keeps firewalls from forgetting an idle association',
  },
} as const satisfies Record<string, LimitRow>;

export type Limits = { -readonly [K in keyof typeof LIMITS]: number };

export const DEFAULT_LIMITS: Readonly<Limits> = Object.freeze(
  Object.fromEntries(Object.entries(LIMITS).map(([name, row]) => [name, row.default])) as Limits,
);

export function withDefaults(limits: Partial<Limits> = {}): Limits {
  const result: Limits = { ...DEFAULT_LIMITS };
  for (const [name, value] of Object.entries(limits) as [keyof Limits, number | undefined][]) {
    if (value === undefined) continue;
    const row: LimitRow | undefined = LIMITS[name];
    if (row === undefined) throw new RangeError(`unknown limit ${name}`);
    if (!(value >= row.min && value <= row.max)) {
      throw new RangeError(`limit ${name} is ${value}; it must be between ${row.min} and ${row.max} ${row.unit}`);
    }
    result[name] = value;
  }
  return result;
}
