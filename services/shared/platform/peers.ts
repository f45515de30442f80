/**
 * `peers:` of gantry.yaml: the application entities that Gantry knows. One row of PEER_FIELDS a field, so that what is accepted,
 * what is checked and what is documented cannot drift apart.
 */
export const PEER_SERVICES = ['echo', 'store', 'find', 'move', 'get', 'commitment'] as const;
export type PeerService = (typeof PEER_SERVICES)[number];

export interface Peer {
  aeTitle: string;
  /** Empty: this peer only calls us (no C-MOVE to it, no storage commitment on a new association). */
  host: string;
  port: number;
  /** What it may ask of us. */
  services: PeerService[];
  /** What we propose to it, most wanted first; empty: what is stored, then Explicit and Implicit VR LE. */
  transferSyntaxes: string[];
  /** PS3.8 §D.1: the longest P-DATA-TF variable field we take from it. 0: the setting dimse.pduLengthMax. */
  pduLengthMax: number;
  connectTimeoutMs: number;
  /** How long it may take to answer one message of ours. */
  responseTimeoutMs: number;
  /** What 8-bit text without Specific Character Set (0008,0005) from this peer means; empty: the setting of the door. */
  defaultCharset: string;
  /** Force the character set of our C-FIND answers; empty: the query's if it can carry the value, else ISO_IR 192. */
  responseCharset: string;
  /** PS3.4 §J.3.3: where the N-EVENT-REPORT goes. */
  commitment: 'new' | 'same';
  /** Take C-FIND identifiers without the unique keys above their level though relational queries were not negotiated. */
  relationalLenient: boolean;
  /** When an instance is kept in several transfer syntaxes: which one this peer wants, most wanted first. */
  renditionPreference: string[];
  /** Associations that it may hold at once; 0: the setting dimse.associationsPerPeerMax. */
  associationsMax: number;
}

interface PeerField {
  type: 'string' | 'integer' | 'boolean' | 'ms' | 'bytes' | 'list';
  default: unknown;
  doc: string;
  min?: number;
  max?: number;
  values?: readonly string[];
  required?: boolean;
  /** Sentence that ends "<field> …" when the text is wrong. */
  pattern?: { test: RegExp; says: string };
}

// PS3.5 §6.2, AE: at most 16 characters of the default repertoire without backslash and control characters; not only spaces.
const AE_TITLE = {
  test: /^(?! *$)[\x20-\x5b\x5d-\x7e]{1,16}$/,
  says: 'must be 1 to 16 characters without backslash, not only spaces',
};
const UID = { test: /^[0-9.]{1,64}$/, says: 'must hold UIDs (digits and dots, at most 64 characters)' };

export const PEER_FIELDS: Record<keyof Peer, PeerField> = {
  aeTitle: { type: 'string', default: '', required: true, pattern: AE_TITLE, doc: 'Its AE title.' },
  host: { type: 'string', default: '', doc: 'Name or address at which it listens; empty: it only calls us.' },
  port: { type: 'integer', default: 104, min: 1, max: 65_535, doc: 'Port at which it listens (PS3.8 §9.1: 104).' },
  services: { type: 'list', default: [...PEER_SERVICES], values: PEER_SERVICES, doc: 'What it may ask of us.' },
  transferSyntaxes: {
    type: 'list',
    default: [],
    pattern: UID,
    doc: 'What we propose to it, most wanted first; empty: what is stored, then Explicit and Implicit VR Little Endian.',
  },
  pduLengthMax: {
    type: 'bytes',
    default: 0,
    min: 0,
    max: 16 * 1024 * 1024,
    doc: 'Longest PDU we take from it; 0: as dimse.pduLengthMax.',
  },
  connectTimeoutMs: {
    type: 'ms',
    default: 10_000,
    min: 100,
    max: 600_000,
    doc: 'How long we wait for its socket and its answer to A-ASSOCIATE.',
  },
  responseTimeoutMs: {
    type: 'ms',
    default: 60_000,
    min: 100,
    max: 3_600_000,
    doc: 'How long it may take to answer one message.',
  },
  defaultCharset: {
    type: 'string',
    default: '',
    doc: 'What 8-bit text without (0008,0005) from it means, as a Defined Term of PS3.3 §C.12.1.1.2 (ISO_IR 100).',
  },
  responseCharset: {
    type: 'string',
    default: '',
    doc: "Character set of our C-FIND answers to it; empty: the query's if it can carry the value, else ISO_IR 192.",
  },
  commitment: {
    type: 'string',
    default: 'new',
    values: ['new', 'same'],
    doc: 'Storage commitment reports go on a new association, or on the one of the request while it lasts.',
  },
  relationalLenient: {
    type: 'boolean',
    default: false,
    doc: 'Take queries without the unique keys above their level though it did not negotiate relational queries.',
  },
  renditionPreference: {
    type: 'list',
    default: [],
    pattern: UID,
    doc: 'Which of several kept transfer syntaxes it wants, most wanted first.',
  },
  associationsMax: {
    type: 'integer',
    default: 0,
    min: 0,
    max: 10_000,
    doc: 'Associations it may hold at once; 0: as dimse.associationsPerPeerMax.',
  },
};

/** All that is wrong is reported at once, each as a sentence that begins with where it is. */
export function parsePeers(raw: unknown, parse: FieldParser): { peers: Peer[]; problems: string[] } {
  const problems: string[] = [];
  if (raw === undefined || raw === null) return { peers: [], problems };
  if (!Array.isArray(raw)) return { peers: [], problems: ['peers must be a list: one "- aeTitle: …" for each peer'] };
  const peers: Peer[] = [];
  const seen = new Map<string, number>();
  raw.forEach((entry: unknown, at) => {
    const where = `peers[${at}]`;
    if (entry === null || typeof entry !== 'object' || Array.isArray(entry)) {
      problems.push(`${where} must be a mapping with at least aeTitle`);
      return;
    }
    const given = entry as Record<string, unknown>;
    for (const name of Object.keys(given))
      if (!(name in PEER_FIELDS)) problems.push(parse.unknown(`${where}.${name}`, name, Object.keys(PEER_FIELDS)));
    const peer: Record<string, unknown> = {};
    for (const [name, field] of Object.entries(PEER_FIELDS)) {
      const value = given[name];
      if (value === undefined || value === null) {
        if (field.required) problems.push(`${where} needs ${name}`);
        peer[name] = structuredClone(field.default);
        continue;
      }
      const parsed = parse.value(`${where}.${name}`, field, value);
      if ('problem' in parsed) problems.push(parsed.problem);
      else {
        const texts = Array.isArray(parsed.value) ? parsed.value : [parsed.value];
        if (field.pattern && texts.some((text) => !field.pattern!.test.test(String(text))))
          problems.push(`${where}.${name} ${field.pattern.says}`);
        peer[name] = parsed.value;
      }
    }
    // PS3.5 §6.2: leading and trailing spaces of an AE title are not significant.
    if (typeof peer.aeTitle === 'string') peer.aeTitle = peer.aeTitle.trim();
    const title = String(peer.aeTitle);
    const before = seen.get(title);
    if (title !== '' && before !== undefined)
      problems.push(`${where}.aeTitle is "${title}", which peers[${before}] already has`);
    seen.set(title, at);
    peers.push(peer as unknown as Peer);
  });
  return { peers, problems };
}

/** Given by setting-values.ts, which knows units and did-you-mean. */
export interface FieldParser {
  value(
    where: string,
    field: Omit<PeerField, 'doc' | 'default' | 'required' | 'pattern'>,
    raw: unknown,
  ): { value: unknown } | { problem: string };
  unknown(where: string, name: string, known: string[]): string;
}
